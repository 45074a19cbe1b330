"""Damages every kind of file that a command reads, and reads it: a value or one line, nothing else.

    python -m benchmarks.fuzz [KIND ...] [--count=N | --seconds=S] [--seed=N]

A kind is a small valid directory, the files in it that are damaged one at a time, and the library's
reader. Damages are seeded: some know JSON (another value in a field, a field gone, a name twice),
some know safetensors (the same in its header), some flip, cut, repeat or insert bytes. One line a
kind is printed: how many damages, how many were refused; anything but `InputError` of one line, a
read of more than some seconds, or memory far beyond the file's is a failure, printed with the
number by which it can be made again, and the exit status is 1.
"""

import contextlib
import copy
import dataclasses
import functools
import json
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import app, flags

from lorajax import io
from lorajax.errors import InputError

MOST_SECONDS = 20  # of one read; the slowest valid one takes under one, on a busy machine three
MOST_BYTES = 1 << 30  # that the process may grow by in one read

# Values that stand where others are meant; RAW ones are no value of Python's json.
RAW = 'raw text: '
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**299, 1.5, -0.0, 1e308, 1e-320, '', 'false',
    'x', '\ud800', '../../etc/passwd', 'a' * 5000, 'a\nb\x00', [], [[]], [None], [0], ['x'], {},
    {'a': 1}, {'': {}}, RAW + 'NaN', RAW + '-Infinity', RAW + '1e999', RAW + '9' * 5000,
    RAW + '[' * 3000 + ']' * 3000, RAW + '{"a":' * 3000 + '1' + '}' * 3000, RAW + '{"a":1,"a":2}',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
      write: makes a valid directory.
      read: reads it as a command does.
      files: those that are damaged.
    """

    write: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], Any]
    files: tuple[str, ...]


# ---------------------------------------------------------------------------------------- damages


def damage(data: bytes, name: str, rng: np.random.Generator) -> bytes:
    """Returns a file's content with one damage, or a few."""
    for _ in range(int(rng.integers(1, 3))):
        knows = rng.random() < 0.7
        if knows and name.endswith(('.json', '.jsonl')):
            data = _in_lines(data, rng) if name.endswith('.jsonl') else _in_json(data, rng)
        elif knows and name.endswith('.safetensors') and len(data) > 8:
            data = _in_header(data, rng)
        else:
            data = _in_bytes(data, rng)
    return data


def _in_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips a bit, cuts, repeats, removes or inserts a stretch."""
    start, stop = sorted(int(n) for n in rng.integers(0, len(data) + 1, 2))
    stop = min(stop, start + 200)
    inserted = (b'\xff', b'\x00' * 9, b'{', b']', b'"', b'\\ud800', b'\n\n', '\u2028'.encode())
    match int(rng.integers(6)):
        case 0 if data:
            flipped = bytearray(data)
            flipped[start % len(data)] ^= 1 << int(rng.integers(8))
            return bytes(flipped)
        case 1:
            return data[:start]
        case 2:
            return data[:stop] + data[start:]
        case 3:
            return data[:start] + data[stop:]
        case 4:
            return data[:start] + rng.bytes(stop - start) + data[stop:]
        case _:
            return data[:start] + inserted[int(rng.integers(len(inserted)))] + data[start:]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Returns container and key of everything in a JSON value."""
    places, level = [], [value]
    while level:
        container = level.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            places.append((container, key))
            if isinstance(container[key], dict | list):
                level.append(container[key])
    return places


def _in_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Puts another value in a place, removes, renames or doubles one."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # damaged before
        return _in_bytes(data, rng)
    places = _places(value) if isinstance(value, dict | list) else []
    if not places or rng.random() < 0.03:
        return _encode(VALUES[int(rng.integers(len(VALUES)))])
    # Small tables such as a vocabulary must not hide the other fields.
    by_container: dict[int, list[tuple[Any, Any]]] = {}
    for place in places:
        by_container.setdefault(id(place[0]), []).append(place)
    inside = list(by_container.values())[int(rng.integers(len(by_container)))]
    container, key = inside[int(rng.integers(len(inside)))]
    match int(rng.integers(6)):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[str(rng.choice(['x', 'a' * 3000, '', '\ud800', '__proto__']))] = (
                container.pop(key)
            )
        case 2:
            other, place = places[int(rng.integers(len(places)))]
            container[key] = copy.deepcopy(other[place])
        case 3 if isinstance(container, list):
            container.extend(container[:100])
        case _:
            container[key] = VALUES[int(rng.integers(len(VALUES)))]
    return _encode(value)


def _encode(value: Any) -> bytes:
    """Returns JSON text, raw texts put in unquoted."""
    text = json.dumps(value)
    for raw in (entry for entry in VALUES if isinstance(entry, str) and entry.startswith(RAW)):
        text = text.replace(json.dumps(raw), raw.removeprefix(RAW))
    return text.encode()


def _in_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages one line of JSON."""
    lines = data.split(b'\n')
    index = int(rng.integers(len(lines)))
    lines[index] = _in_json(lines[index], rng)
    return b'\n'.join(lines)


def _in_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages the header of a safetensors file, and says its new length or a wrong one."""
    length = int.from_bytes(data[:8], 'little')
    header = _in_json(data[8 : 8 + length], rng)
    said = len(header) if rng.random() < 0.9 else int(rng.choice([0, 1, 10**8, 2**62]))
    return said.to_bytes(8, 'little') + header + data[8 + length :]


# ------------------------------------------------------------------------------------------ kinds


def _write_adapter(path: pathlib.Path, with_sums: bool = False) -> None:
    from lorajax import lora

    rng = np.random.default_rng(0)
    entry = {'a': rng.normal(size=(2, 8, 2)), 'b': rng.normal(size=(2, 2, 8))}
    config = lora.LoraConfig(
        2, 3, ('q_proj', 'up_proj'), rank_pattern={'up_proj': 2}, alpha_pattern={'q_proj': 5},
        base_model='owner/name@v1',
    )  # fmt: skip
    lora.save_peft(path, config, {'layers': dict.fromkeys(config.targets, entry)})
    if not with_sums:
        (path / io.SUMS_FILE).unlink()


def _read_adapter(path: pathlib.Path) -> None:
    from lorajax import lora

    config, adapter = lora.load_peft(path)
    lora.save_peft(path / 'again', config, adapter)


def _write_model(path: pathlib.Path, **options: Any) -> None:
    from tests.models import malformed

    malformed.write_valid(path, **options)


def _read_model(path: pathlib.Path) -> None:
    from lorajax.models import config
    from lorajax.models.hf import checkpoint

    checkpoint.find_tensors(path, config.read(path))


def _write_tokenizer(path: pathlib.Path) -> None:
    from tests import tiny_models

    tiny_models.write_tokenizer(path, 'qwen2', ['some text', 'more of it'], vocab_size=300)
    io.write_json(path / 'generation_config.json', {'eos_token_id': [1, 2]})


def _read_tokenizer(path: pathlib.Path) -> None:
    from lorajax.tasks import chat
    from lorajax.tasks.task import Example

    chat_format = chat.load_chat_format(path)
    encoded = chat_format.encode(Example('id', 'some text', 'more', '4'))
    chat_format.decode(encoded.answer)


def _write_rows(path: pathlib.Path) -> None:
    say = {'role': 'user', 'content': 'some text'}, {'role': 'assistant', 'content': 'more'}
    rows = [
        {'messages': list(say)},
        {'prompt': 'some text', 'completion': 'more'},
        {'prompt': [say[0]], 'completion': [say[1]]},
    ]
    io.write_jsonl(path / 'rows.jsonl', rows)


def _read_rows(path: pathlib.Path) -> None:
    from lorajax.tasks import sft_rows

    sft_rows.read_prompts(path / 'rows.jsonl')
    sft_rows.read(path / 'rows.jsonl')


def _write_task(path: pathlib.Path) -> None:
    rows = [
        {'question': f'Which of {n} and {n + 1} is larger?', 'choices': [str(n), str(n + 1)],
         'answer': n % 2 if n < 3 else 'B'}
        for n in range(6)
    ]  # fmt: skip
    io.write_jsonl(path / 'rows.jsonl', rows)
    content = {
        'task': 'larger', 'data_files': {'train': 'rows.jsonl', 'test': 'rows.jsonl'},
        'output_type': 'multiple_choice', 'doc_to_text': '{{question}} Say which.',
        'doc_to_target': 'answer', 'metadata': {'version': 2}, 'domain': 'math',
    }  # fmt: skip
    io.write_json(path / 'task.json', content)


def _read_task(path: pathlib.Path) -> None:
    from lorajax.tasks import data, task_file

    task = task_file.read(path / 'task.json')
    data.draw([task], [task], data.DataSource(), 4, 4, 0)


def _write_mapping(path: pathlib.Path, method: str) -> None:
    from lorajax import mapping

    mapping.fit(method, *_anchors()).save(path)
    (path / io.SUMS_FILE).unlink(missing_ok=True)


def _read_mapping(path: pathlib.Path) -> None:
    from lorajax import mapping

    mapping.load(path).predict(_anchors()[0]['t0'])


@functools.cache
def _anchors() -> tuple[dict[str, Any], dict[str, Any]]:
    """Three small adapters a side."""
    rng = np.random.default_rng(0)

    def draw(depth: int, width: int) -> dict[str, Any]:
        entry = {
            'a': rng.normal(size=(depth, width, 2)).astype(np.float32),
            'b': rng.normal(size=(depth, 2, width)).astype(np.float32),
        }
        return {'layers': {'q_proj': entry}}

    tasks = [f't{i}' for i in range(3)]
    return {task: draw(2, 8) for task in tasks}, {task: draw(3, 6) for task in tasks}


def _write_flagfile(path: pathlib.Path) -> None:
    source = pathlib.Path(__file__).resolve().parent.parent / 'launch' / 'toy.flags'
    shutil.copy(source, path / 'toy.flags')


def _read_flagfile(path: pathlib.Path) -> None:
    from lorajax.commands import parse

    parse.parse([f'--flagfile={path / "toy.flags"}'])


def _write_outcomes(path: pathlib.Path) -> None:
    rows = [
        {'task': 't', 'method': method, 'item': f'i{item}', 'correct': bool(item % 2),
         'prediction': 'x', 'reference': 'y', 'nll': 0.5}
        for method in ('base', 'mean', 'oracle')
        for item in range(4)
    ]  # fmt: skip
    io.write_jsonl(path / 't.jsonl', rows)


def _read_outcomes(path: pathlib.Path) -> None:
    from lorajax.evaluation import outcomes, results

    table = outcomes.read_table(path / 't.jsonl', 't')
    results.build({'methods': [], 'domains': {'t': 'math'}}, {'t': table})


def _write_examples(path: pathlib.Path) -> None:
    from lorajax.tasks import examples
    from lorajax.tasks.task import Example

    row = Example('a/1', 'some text', 'more', '4', ('text/1',), {'labels': ['A', 'B']}, 'text')
    examples.write(path / 't.jsonl', [row, row])
    (path / 't.jsonl.sha256').unlink()


def _read_examples(path: pathlib.Path) -> None:
    from lorajax.tasks import examples

    for example in examples.read(path / 't.jsonl'):
        example.to_json()


def _write_pairs(path: pathlib.Path) -> None:
    for task in ('a', 'b'):
        for side in ('source', 'target'):
            _write_adapter(path / task / side)


def _read_pairs(path: pathlib.Path) -> None:
    from lorajax.mapping import pairs

    *sides, _ = pairs.read(path)
    for loaders in sides:
        for load in loaders.values():
            load()


def _write_run(path: pathlib.Path) -> None:
    """A finished run, as far as its report is made of it."""
    from lorajax.experiment import provenance

    experiment = _experiment(path)
    files = experiment.files
    for task in experiment.heldouts:
        files.outcomes(task).parent.mkdir(parents=True, exist_ok=True)
        _write_outcomes(files.outcomes(task).parent)
        rows = (files.outcomes(task).parent / 't.jsonl').read_text()
        for target in (files.outcomes(task), files.source_outcomes(task)):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(rows.replace('"t"', f'"{task}"'))
    io.write_json(
        files.config,
        {**experiment.to_json(), 'domains': dict.fromkeys(experiment.heldouts, 'math'),
         'twins': {task: ['gsm8k'] for task in experiment.heldouts},
         'data_hash': provenance.hash_rows(files.data), 'model_hashes': {}},
    )  # fmt: skip
    files.mappings.mkdir()
    io.write_json(files.selection, {'selected_method': 'mean', 'loo_r2': {'mean': 0.0}})
    io.write_jsonl(files.metrics, [{'event': 'train', 'side': 'source', 'step': 1, 'loss': [1.0]}])


def _read_run(path: pathlib.Path) -> None:
    from lorajax.experiment.stages import prepare, report

    experiment = _experiment(path)
    prepare.check_prepared(experiment)
    report.rebuild_report(experiment.files)


def _experiment(path: pathlib.Path) -> Any:
    from lorajax.experiment.config import Experiment

    return Experiment(workdir=str(path), heldouts=('toy_math_keep_7',), methods=('mean',))


ADAPTER = ('adapter_config.json', 'adapter_model.safetensors')
TOKENIZER = (
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
    'generation_config.json',
)
KINDS: dict[str, Kind] = {
    'adapter': Kind(_write_adapter, _read_adapter, ADAPTER),
    'sums': Kind(
        functools.partial(_write_adapter, with_sums=True), _read_adapter, (io.SUMS_FILE, *ADAPTER)
    ),
    'model': Kind(_write_model, _read_model, ('config.json', 'model.safetensors')),
    'shards': Kind(
        functools.partial(_write_model, shard_bytes=40_000), _read_model,
        ('model.safetensors.index.json', 'model-00001-of-00004.safetensors'),
    ),
    'tokenizer': Kind(_write_tokenizer, _read_tokenizer, TOKENIZER),
    'rows': Kind(_write_rows, _read_rows, ('rows.jsonl',)),
    'task file': Kind(_write_task, _read_task, ('task.json', 'rows.jsonl')),
    'prepared rows': Kind(_write_examples, _read_examples, ('t.jsonl',)),
    'pairs': Kind(
        _write_pairs, _read_pairs, tuple(f'a/{side}/{name}' for side in ('source', 'target')
                                         for name in ADAPTER),
    ),
    'run': Kind(
        _write_run, _read_run,
        ('config.json', 'mappings/selection.json', 'metrics.jsonl',
         'outcomes/source/toy_math_keep_7.jsonl'),
    ),
    **{
        f'mapping by {method}': Kind(
            functools.partial(_write_mapping, method=method), _read_mapping,
            ('mapping.json', *(f'{part}.safetensors' for part in parts)),
        )
        for method, *parts in (
            ('delta_ridge', 'arrays', 'source/0000', 'frame/0002'),
            ('mean', 'arrays', 'target/0001'),
            ('matched_scaled', 'arrays', 'source/0001', 'frame/0000'),
            ('bilinear_ridge', 'arrays', 'source_frame/0001', 'frame/0001', 'tensors/0001'),
            ('pertensor_mlp', 'arrays'),
            ('topk2_global_ridge', 'arrays'),
            ('delta_pca', 'arrays'),
            ('pad_truncate', 'tensors/0002'),
        )
    },
    'flagfile': Kind(_write_flagfile, _read_flagfile, ('toy.flags',)),
    'outcomes': Kind(_write_outcomes, _read_outcomes, ('t.jsonl',)),
}  # fmt: skip


# ---------------------------------------------------------------------------------------- running


class _TooSlow(BaseException):
    """A read took too long; no `except Exception` may stop it."""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Ends the block after some seconds."""

    def stop(*_: Any) -> None:
        raise _TooSlow(f'more than {MOST_SECONDS} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    """Returns the most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(kind: Kind, path: pathlib.Path) -> tuple[bool, str | None]:
    """Reads a directory.

    Returns:
      Whether it was refused, and what went wrong, if anything.
    """
    before = _peak()
    is_refused = False
    try:
        with _limited():
            kind.read(path)
    except InputError as error:
        is_refused = True
        line = str(error)
        if '\n' in line or len(line) > 1000:
            return True, f'a line of {len(line)} characters: {line[:200]!r}'
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 what the search is for, a panic of Rust code included
        return False, traceback.format_exc(limit=-6)
    grown = _peak() - before
    return is_refused, f'{grown >> 20} MiB more memory' if grown > MOST_BYTES else None


def search(
    kind: Kind, seed: int, count: int, seconds: float = float('inf')
) -> tuple[int, int, list[str]]:
    """Damages the files of a kind one at a time.

    Args:
      kind: what to damage.
      seed: of the first damage; the next have the next numbers.
      count: how many.
      seconds: after which to stop before that.

    Returns:
      How many were tried, how many of them refused, and what went wrong.
    """
    failures = []
    tried = refused = 0
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as root:
        valid = pathlib.Path(root) / 'valid'
        valid.mkdir()
        kind.write(valid)
        path = pathlib.Path(root) / 'copy'
        shutil.copytree(valid, path)
        kind.read(path)  # also imports what it needs, which takes seconds
        for number in range(seed, seed + count):
            if time.monotonic() > end:
                break
            rng = np.random.default_rng(number)
            name = kind.files[int(rng.integers(len(kind.files)))]
            shutil.rmtree(path)
            path = pathlib.Path(root) / str(number)  # readers may remember what lay at a path
            shutil.copytree(valid, path)
            (path / name).write_bytes(damage((valid / name).read_bytes(), name, rng))
            is_refused, problem = attempt(kind, path)
            tried, refused = tried + 1, refused + is_refused
            if problem:
                failures.append(f'{name}, seed {number}: {problem}')
    return tried, refused, failures


_COUNT = flags.DEFINE_integer('count', 1000, 'damages of each kind')
_SECONDS = flags.DEFINE_float('seconds', 0.0, 'of each kind, instead of a number of damages')
_SEED = flags.DEFINE_integer('seed', 0, 'of the first damage')


def main(arguments: list[str]) -> None:
    names = arguments[1:] or list(KINDS)
    print('| files | damages | refused | uncaught, slow or large |\n| --- | ---: | ---: | ---: |')
    failed = False
    for name in names:
        count = 10**9 if _SECONDS.value else _COUNT.value
        tried, refused, failures = search(
            KINDS[name], _SEED.value, count, _SECONDS.value or float('inf')
        )
        print(f'| {name} | {tried} | {refused} | {len(failures)} |', flush=True)
        for failure in failures[:5]:
            print(failure, file=sys.stderr)
        failed |= bool(failures)
    sys.exit(int(failed))


if __name__ == '__main__':
    app.run(main)
