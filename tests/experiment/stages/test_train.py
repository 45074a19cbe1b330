"""Every task gets an adapter on both models; what a killed run left is gone on with."""

import dataclasses
import logging
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import pytest

from lorajax import lora
from lorajax.errors import InputError
from lorajax.experiment import locks, options, pipeline
from lorajax.experiment.adapters import REPEATED
from lorajax.experiment.shards import Shard
from lorajax.experiment.stages import train
from lorajax.training import trackers
from lorajax.training.checkpoint import group_name

ROOT = pathlib.Path(__file__).resolve().parents[3]


def weights(experiment, pool, task):
    return (experiment.files.adapter(pool, task) / 'adapter_model.safetensors').read_bytes()


def test_pools_are_both_models_and_the_repetition(toy_run):
    pools = {pool.name: pool for pool in train.pools(toy_run)}
    assert list(pools) == ['source', 'target', REPEATED]
    assert pools['source'].tasks == toy_run.tasks and pools[REPEATED].tasks == toy_run.heldouts
    assert (pools['target'].config.repeat, pools[REPEATED].config.repeat) == (0, 1)
    plain = dataclasses.replace(toy_run, diagnostics=False)
    assert [pool.name for pool in train.pools(plain)] == ['source', 'target']


def test_adapters_name_their_base_and_repetitions_differ(toy_run):
    (task,) = toy_run.heldouts
    config, _ = lora.load_peft(toy_run.files.adapter('source', task))
    assert config.base_model == toy_run.model_directory('source')
    assert (config.rank, config.alpha) == (toy_run.lora_rank, toy_run.lora_alpha)
    assert weights(toy_run, REPEATED, task) != weights(toy_run, 'target', task)
    assert not (toy_run.files.root / 'checkpoints' / 'target').exists()


def test_a_missing_adapter_is_trained_again_to_the_same_bytes(copied_run):
    """Its whole group is trained again, and only what is missing is written."""
    (task,) = copied_run.heldouts
    before = weights(copied_run, 'target', task)
    other = copied_run.files.adapter('target', copied_run.anchors[0])
    stamp = other.stat().st_mtime_ns
    shutil.rmtree(copied_run.files.adapter('target', task))
    assert pipeline.run(dataclasses.replace(copied_run, stages=('train',))) == ['train']
    assert weights(copied_run, 'target', task) == before and other.stat().st_mtime_ns == stamp


def test_losses_reach_the_trackers_that_are_asked_for(copied_run, monkeypatch):
    seen = []

    class Tracker:
        """Keeps what it is told."""

        def log(self, group, step, values):
            seen.append((group, step, sorted(values)))

    def open_tracker(name, directory):
        assert (name, directory) == ('tensorboard', copied_run.files.root)
        return Tracker()

    monkeypatch.setattr(trackers, 'open_tracker', open_tracker)
    shutil.rmtree(copied_run.files.adapter('target', copied_run.anchors[0]))
    assert train.train(dataclasses.replace(copied_run, report_to=('tensorboard',)))
    group, step, names = seen[-1]
    assert (group, step) == ('target', 32)
    assert {f'loss/{task}' for task in copied_run.tasks} < set(names)


def test_states_of_other_pools_are_left_alone(copied_run):
    """A killed distillation goes on after the train stage has looked at its own pools."""
    left = copied_run.files.checkpoints('distilled', 'group') / 'state'
    left.parent.mkdir(parents=True)
    left.write_text('half way')
    assert not train.train(copied_run)
    (task,) = copied_run.heldouts
    shutil.rmtree(copied_run.files.adapter('source', task))
    assert train.train(copied_run) and left.read_text() == 'half way'


def test_a_group_is_of_similar_numbers_of_rows_and_then_of_similar_lengths():
    def rows(length, count=1):
        return [type('Row', (), {'prompt': [0] * length, 'answer': [0]})()] * count

    encoded = {'long': rows(9), 'short': rows(1), 'middle': rows(5), 'many': rows(1, 3)}
    assert [list(group) for group in train._groups(encoded, 2)] == [
        ['short', 'middle'], ['long', 'many']
    ]  # fmt: skip
    assert [len(group) for group in train._groups(encoded, 0)] == [4]


def test_a_damaged_row_is_refused(copied_run):
    (task,) = copied_run.heldouts
    shutil.rmtree(copied_run.files.adapter('source', task))
    path = copied_run.files.train_data(copied_run.anchors[0])
    path.write_text(path.read_text().replace('code', 'cods', 1))
    with pytest.raises(InputError, match=str(path)):
        train.train(copied_run)


@pytest.fixture
def prepared_run(copied_run):
    """The run as it was before its first training."""
    for name in ('adapters', 'mappings', 'predicted', 'outcomes', 'report'):
        shutil.rmtree(copied_run.files.root / name)
    copied_run.files.metrics.unlink()
    return copied_run


def test_shards_train_what_one_process_trains_and_one_goes_on(toy_run, prepared_run):
    """Two processes at once, without a word between them."""
    files = prepared_run.files
    with pytest.raises(InputError, match=r'adapters: 9 of 9 .* missing, source/.*and 1 more; run'):
        pipeline.run(dataclasses.replace(prepared_run, stages=('map',)))
    flags = [f'--{name}={options.show(value)}' for name, value in vars(prepared_run).items()]
    other = subprocess.Popen(
        [sys.executable, '-m', 'lorajax.launch', *flags, '--stages=train', '--num_shards=2',
         '--shard_index=0'], cwd=ROOT, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while not any(files.root.glob('checkpoints/source/*')):  # it is in the middle of its part
        assert other.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    train_only = dataclasses.replace(prepared_run, stages=('train',))
    assert pipeline.run(train_only, Shard(2, 1)) == ['train']
    _, stderr = other.communicate(timeout=100)
    assert other.returncode == 0, stderr
    pools = [(pool.name, task) for pool in train.pools(toy_run) for task in pool.tasks]
    assert len(pools) == 9
    for pool, task in pools:
        assert weights(prepared_run, pool, task) == weights(toy_run, pool, task), (pool, task)
    assert not list(files.root.glob('checkpoints/*/*')) and not files.metrics.exists()
    names = sorted(path.stem for path in files.all_item_metrics.iterdir())
    assert len(names) == 5 and names[-2:] == ['train-shard0', 'train-shard1']  # and three groups
    rest = ('train', 'map', 'evaluate', 'report')
    assert pipeline.run(dataclasses.replace(prepared_run, stages=rest)) == list(rest[1:])
    assert files.results.read_bytes() == toy_run.files.results.read_bytes()
    assert (files.report / 'loss.png').is_file()


def test_a_group_that_another_process_trains_is_waited_for(toy_run, copied_run, caplog):
    (task,) = copied_run.heldouts
    directory = copied_run.files.adapter(REPEATED, task)
    shutil.rmtree(directory)
    waiting = threading.Thread(target=train.train, args=(copied_run, Shard(3, 2)))
    with (
        caplog.at_level(logging.INFO, logger='absl'),
        locks.locked(copied_run.files.training_lock(REPEATED, group_name([task]))),
    ):
        waiting.start()
        deadline = time.monotonic() + 60
        line = f'waiting for the process that trains {task}'
        while line not in caplog.messages:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        shutil.copytree(toy_run.files.adapter(REPEATED, task), directory)
    waiting.join(60)
    assert not waiting.is_alive()
    assert not copied_run.files.all_item_metrics.exists()  # nothing was trained


def test_more_shards_than_groups_have_nothing_to_do(copied_run, caplog):
    shutil.rmtree(copied_run.files.adapters)
    with caplog.at_level(logging.WARNING, logger='absl'):
        assert not train.train(copied_run, Shard(4, 0))
    assert caplog.messages[0].startswith('4 shards for 3 groups of adapters: ')
