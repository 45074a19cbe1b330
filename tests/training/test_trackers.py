"""Numbers reach TensorBoard and Weights & Biases, where their libraries are installed."""

import pathlib
import subprocess
import sys
import time

import pytest

from lorajax.errors import ArgumentError
from lorajax.training import MetricWriter, trackers

ROWS = [
    ('train', {'side': 'source', 'step': 10, 'tasks': ['a', 'b'], 'loss': [1.5, None],
               'tokens_per_second': 7.0}),
    ('train', {'side': 'source', 'step': 20, 'tasks': ['a', 'b'], 'loss': [1.0, 0.5],
               'tokens_per_second': 8.0}),
    ('train', {'side': 'target', 'step': 10, 'tasks': ['a'], 'loss': [2.0],
               'tokens_per_second': 9.0}),
    ('validation', {'side': 'target', 'step': 10, 'loss': {'a': 2.5}}),
    ('stage', {'stage': 'train', 'seconds': 3.0}),
]  # fmt: skip


class Library:
    """Stands for either vendor's module, and for what it makes."""

    def __init__(self):
        self.seen, self.is_closed = [], False

    def SummaryWriter(self, directory):
        self.seen.append(directory)
        return self

    def add_scalar(self, name, value, step):
        self.seen.append((name, value, step))

    def init(self, **options):
        self.seen.append(options)
        return self

    def define_metric(self, name, step_metric=None):
        self.seen.append((name, step_metric))

    def log(self, values):
        self.seen.append(values)

    def flush(self):
        pass

    def close(self):
        self.is_closed = True

    finish = close


def write(tmp_path, *names):
    for event, values in ROWS:
        MetricWriter(tmp_path / 'metrics.jsonl', names).write(event, **values)
    trackers.close_all()


@pytest.fixture
def library(monkeypatch):
    made = Library()
    monkeypatch.setattr(trackers, '_library', lambda name: made)
    return made


def test_every_number_has_its_name_and_step(tmp_path, library):
    write(tmp_path, 'tensorboard')
    first, *scalars = library.seen
    assert first == str(tmp_path / 'tensorboard') and library.is_closed
    assert ('source/loss/a', 1.5, 10) in scalars and ('target/loss/a', 2.0, 10) in scalars
    assert ('target/validation_loss/a', 2.5, 10) in scalars
    assert not [s for s in scalars if s[0] == 'source/loss/b' and s[2] == 10]  # it has ended
    assert len(scalars) == 2 + 3 + 2 + 1
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == len(ROWS)


def test_groups_count_steps_of_their_own(tmp_path, library):
    write(tmp_path, 'wandb')
    options, *rest = library.seen
    known = options.pop('id')
    named = {'project': 'lorajax', 'name': tmp_path.name, 'dir': str(tmp_path)}
    assert options == {**named, 'resume': 'allow'} and len(known) == 16
    assert rest.count(('target/*', 'target/step')) == 1
    assert {'target/step': 10, 'target/validation_loss/a': 2.5} in rest and library.is_closed
    # Work that is taken up again goes on in the same run; a process beside it has its own.
    for expected in (known, None):
        trackers.open_tracker.cache_clear()
        MetricWriter(tmp_path / 'metrics.jsonl', ['wandb'])
        assert library.seen[-1]['id'] == expected
    trackers.close_all()
    (tmp_path / 'wandb/run-id').write_text('../else')
    write(tmp_path, 'wandb')
    assert (tmp_path / 'wandb/run-id').read_text() not in (known, '../else')


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    trackers.check(())
    with pytest.raises(ArgumentError, match=r"needs wandb: pip install 'lorajax\[metrics\]'"):
        trackers.check(('wandb',))


def test_nothing_is_imported_that_nobody_asked_for():
    code = (
        'import sys, lorajax.launch, lorajax.commands\n'
        'print({"wandb", "tensorboardX"} & set(sys.modules))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'set()'


def test_tensorboard_reads_it(tmp_path):
    pytest.importorskip('tensorboardX')
    from tensorboardX import proto
    from tensorboardX.record_writer import masked_crc32c  # noqa: F401  the format's own

    write(tmp_path, 'tensorboard')
    data = b''.join(path.read_bytes() for path in (tmp_path / 'tensorboard').iterdir())
    found = {}
    while data:
        size = int.from_bytes(data[:8], 'little')
        event = proto.event_pb2.Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
    assert found['source/loss/a', 20] == 1.0 and found['target/validation_loss/a', 10] == 2.5


def test_weights_and_biases_offline_keeps_a_run(tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    write(tmp_path, 'wandb')
    (run,) = pathlib.Path(tmp_path, 'wandb').glob('offline-run-*/run-*.wandb')
    assert (tmp_path / 'wandb/run-id').read_text() in run.name
    for _ in range(100):  # its own process writes, and not before it is told of the end
        text = run.read_bytes()
        if b'target/validation_loss/a' in text:
            break
        time.sleep(0.1)
    assert b'target/validation_loss/a' in text and b'source/tokens_per_second' in text
