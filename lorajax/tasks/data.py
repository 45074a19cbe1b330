"""Rows from a directory or the hub, and what a run trains and evaluates on.

The rule against leaks: evaluation items of all held-out tasks are chosen first; then every
training set, those of anchors and of held-outs alike, loses each example that shares a
problem id, its normalised question or a run of 13 words of it with any evaluation item of
any task (`lorajax.tasks.overlap`).

Items are ranked by a hash of the run's seed and their *problem*, so the choice depends on no
file order, and tasks over the same problems (GSM8K and GSM-Hard; MBPP, sanitized and plus)
evaluate the same ones first, which leaves the most to train on.
"""

import gzip
import hashlib
import json
import pathlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.tasks import overlap
from lorajax.tasks.registry import DATASETS
from lorajax.tasks.task import Dataset, Example, Pools, RowSource, Task, TaskData

_HINTS = {
    'competition_math': (
        'the rows of MATH are not shipped: get them yourself, or leave out the math_* tasks'
    ),
}

# A pool that is trained on and evaluated keeps at least this share for training.
_TRAIN_SHARE = 0.2


class MissingRowsError(InputError):
    """The rows of a data set are not where they were looked for."""


class DataSource:
    """Reads data sets from a directory, or without one from the Hugging Face hub."""

    def __init__(self, data_dir: str | None = None) -> None:
        """Remembers where to read; reads nothing yet.

        Args:
          data_dir: directory with `<data set>/<split>.jsonl` or `.jsonl.gz` in the hub's
            fields; None for the hub.
        """
        self._data_dir = None if data_dir is None else pathlib.Path(data_dir)
        self._cache: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def rows(self, dataset: str | Dataset, split: str) -> list[dict[str, Any]]:
        """Returns the rows of one split in the file's order, read once.

        Args:
          dataset: a name of `registry.DATASETS`, or a data set that is not in this table.
          split: such as 'train'.

        Raises:
          MissingRowsError: if the split is absent or out of reach.
          InputError: if it is empty or malformed.
        """
        entry = DATASETS[dataset] if isinstance(dataset, str) else dataset
        key = (repr(entry), split)
        if key not in self._cache:
            if entry.files:
                rows = _from_file(entry, split)
            elif self._data_dir is None:
                rows = _from_hub(entry, split)
            else:
                rows = _from_directory(self._data_dir, entry, split)
            self._cache[key] = rows
        return self._cache[key]


def _from_file(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """Reads the file of a split of a data set that is made of files."""
    if split not in dataset.files:
        raise InputError(
            f'data set {dataset.name}: no split {split!r}, expected one of '
            f'{", ".join(dataset.files)}'
        )
    path = dataset.files[split]
    rows = []
    for number, row in io.read_numbered_jsonl(path):
        _check_row(row, dataset, f'{path}:{number}')
        rows.append(row)
    if not rows:
        raise InputError(f'{path}: empty; expected one JSON object per line')
    return rows


def _from_directory(data_dir: pathlib.Path, dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """Reads `<data_dir>/<data set>/<split>.jsonl[.gz]` and checks each row's fields."""
    path = data_dir / dataset.name / f'{split}.jsonl'
    packed = path.with_name(path.name + '.gz')
    if not path.exists() and packed.exists():
        path = packed
    expected = ', '.join(dataset.fields) or 'the fields of its task'
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path is packed else data).decode('utf-8')
    except (FileNotFoundError, NotADirectoryError):
        hint = _HINTS.get(dataset.name, 'or give another data directory')
        raise MissingRowsError(
            f'{path}: no such file; expected one JSON object per line with {expected} ({hint})'
        ) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:  # BadGzipFile too
        raise InputError(f'{path}: cannot be read ({error})') from None
    rows = []
    for number, line in enumerate(text.split('\n'), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f'{path}:{number}: not valid JSON ({error})') from None
            _check_row(row, dataset, f'{path}:{number}')
            rows.append(row)
    if not rows:
        raise InputError(f'{path}: empty; expected one JSON object per line with {expected}')
    return rows


def _from_hub(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """Reads a split from the Hugging Face hub, or from the cache of an earlier download."""
    import datasets  # slow to import, and not needed with a data directory
    from datasets.exceptions import DatasetsError

    where = 'a data directory with a folder for each data set works without the hub'
    if dataset.hub is None:
        raise MissingRowsError(
            f'data set {dataset.name}: no copy on the hub has its fields; {where}'
        )
    rows = []
    for config in dataset.configs:
        name = f'{dataset.hub} ({", ".join(filter(None, (config, split)))})'
        try:
            rows += list(datasets.load_dataset(dataset.hub, config, split=split))
        except (DatasetsError, OSError, ValueError) as error:
            # OSError covers connection, HTTP and offline errors; ValueError an unknown
            # configuration or split.
            reason = ' '.join(str(error).split())[:200]
            raise MissingRowsError(
                f'hub data set {name}: cannot be read ({reason}); {where}'
            ) from None
    for number, row in enumerate(rows, 1):
        _check_row(row, dataset, f'hub data set {dataset.hub}, {split}, row {number}')
    return rows


def _check_row(row: Any, dataset: Dataset, where: str) -> None:
    """Refuses a row that lacks a field or has one of another type."""
    if not isinstance(row, dict):
        raise InputError(f'{where}: expected a JSON object, found {type(row).__name__}')
    for field, kind in dataset.fields.items():
        if field not in row:
            found = ', '.join(row)
            raise InputError(f'{where}: field {field!r} is missing, found {found[:100]}')
        if not isinstance(row[field], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            names = ' or '.join(k.__name__ for k in kinds)
            found = type(row[field]).__name__
            raise InputError(f'{where}: field {field!r} is {found}, expected {names}')


def draw(
    anchors: Sequence[Task],
    heldouts: Sequence[Task],
    source: RowSource,
    train_per_task: int,
    eval_per_task: int,
    seed: int,
    protocol: str = 'direct',
) -> dict[str, TaskData]:
    """Chooses what each task of a run trains on and is evaluated on.

    Args:
      anchors: tasks that need training examples; their `eval` is ().
      heldouts: tasks that need both: training for the conditioning and the oracle adapter.
      source: where rows come from.
      train_per_task: most training examples per task.
      eval_per_task: most evaluation items per task; a data set with a single pool keeps a
        fifth of it for training.
      seed: decides which; the same seed gives the same examples.
      protocol: 'direct' or 'cot'.

    Returns:
      Name of a task -> examples, in the order of their ranks; fewer where the data has fewer.

    Raises:
      InputError: on an unknown protocol, a task without evaluation items among the held-outs,
        numbers below 1, and a training set that the rule leaves empty.
    """
    if train_per_task < 1:
        raise ArgumentError('train_per_task', train_per_task, 'expected at least 1')
    raw = draw_raw(anchors, heldouts, source, eval_per_task, seed, protocol)
    evaluated = overlap.Problems(example for data in raw.values() for example in data.eval)
    return {
        name: TaskData(train=_outside(data.train, evaluated, train_per_task, name), eval=data.eval)
        for name, data in raw.items()
    }


def _outside(
    pool: Sequence[Example], evaluated: overlap.Problems, count: int, name: str
) -> tuple[Example, ...]:
    """The first `count` examples of a pool that share no problem with an evaluation item."""
    shared = evaluated.holds(pool)
    allowed = [e for e, is_shared in zip(pool, shared, strict=True) if not is_shared]
    if not allowed:
        raise InputError(
            f'task {name}: no training example is left, all {len(pool)} share a problem '
            'with an evaluation item; evaluate on fewer or leave the task out'
        )
    return tuple(allowed[:count])


class TrainingDraw(NamedTuple):
    """What one adapter outside of a run trains on.

    Attributes:
      examples: in the order of their ranks.
      unreserved: names of the tasks whose evaluation items could not be kept out, because
        their rows are missing.
    """

    examples: tuple[Example, ...]
    unreserved: tuple[str, ...]


def draw_training(
    task: Task,
    reserved: Sequence[Task],
    source: RowSource,
    train_per_task: int,
    eval_per_task: int,
    seed: int,
    protocol: str = 'direct',
) -> TrainingDraw:
    """Chooses what one adapter trains on that may be evaluated on any task later.

    Kept out are the evaluation items that `draw` would choose, with the same `eval_per_task`
    and `seed`, of the task itself and of every reserved one.

    Args:
      task: what the adapter is for.
      reserved: tasks that nothing may train on, such as all held-outs of the registry.
      source, train_per_task, eval_per_task, seed, protocol: as `draw` takes them.

    Raises:
      InputError: as `draw`; rows of `task` that are missing are an error, those of a reserved
        task are not.
    """
    if train_per_task < 1:
        raise ArgumentError('train_per_task', train_per_task, 'expected at least 1')
    pool = draw_raw([task], [], source, eval_per_task, seed, protocol)[task.name].train
    kept_out: list[Example] = []
    unreserved = []
    for other in {other.name: other for other in (task, *reserved)}.values():
        try:
            pools = other.pools(source, protocol)
        except MissingRowsError:
            unreserved.append(other.name)
            continue
        if pools.eval:
            kept_out += _evaluation(other.name, pools, eval_per_task, seed)
    examples = _outside(pool, overlap.Problems(kept_out), train_per_task, task.name)
    return TrainingDraw(examples, tuple(unreserved))


def draw_raw(
    anchors: Sequence[Task],
    heldouts: Sequence[Task],
    source: RowSource,
    eval_per_task: int,
    seed: int,
    protocol: str = 'direct',
) -> dict[str, TaskData]:
    """Returns the evaluation items of `draw` beside whole, unfiltered training pools.

    `overlap.matrix` of it shows what the rule removes.
    """
    if eval_per_task < 1:
        raise ArgumentError('eval_per_task', eval_per_task, 'expected at least 1')
    evaluated = {task.name for task in heldouts}
    raw = {}
    for name, task in {task.name: task for task in (*anchors, *heldouts)}.items():
        pools = task.pools(source, protocol)
        if not pools.train:
            raise InputError(f'task {name}: its data holds no training example')
        chosen = _evaluation(name, pools, eval_per_task, seed) if name in evaluated else ()
        raw[name] = TaskData(train=_ranked(pools.train, f'{seed}/train/{name}'), eval=chosen)
    return raw


def draw_evaluation(
    tasks: Sequence[Task],
    source: RowSource,
    eval_per_task: int,
    seed: int,
    protocol: str = 'direct',
) -> dict[str, TaskData]:
    """Returns the evaluation items that `draw` would choose, beside whole training pools.

    A task without training rows is no error here; its `train` is ().
    """
    if eval_per_task < 1:
        raise ArgumentError('eval_per_task', eval_per_task, 'expected at least 1')
    drawn = {}
    for task in tasks:
        pools = task.pools(source, protocol)
        chosen = _evaluation(task.name, pools, eval_per_task, seed)
        drawn[task.name] = TaskData(pools.train, chosen)
    return drawn


def _evaluation(name: str, pools: Pools, count: int, seed: int) -> tuple[Example, ...]:
    """The evaluation items of one held-out task: distinct prompts, lowest ranks."""
    ranked = _ranked(pools.eval, f'{seed}/eval')
    first = {example.prompt: example for example in reversed(ranked)}
    distinct = tuple(example for example in ranked if first[example.prompt] is example)
    if not distinct:
        raise InputError(f'task {name}: it has no evaluation items, so it cannot be a held-out')
    if pools.eval == pools.train:
        count = min(count, max(1, int(len(distinct) * (1 - _TRAIN_SHARE))))
    return distinct[:count]


def _ranked(examples: Iterable[Example], salt: str) -> tuple[Example, ...]:
    """Sorts examples by a hash of the salt and their problem."""

    def rank(example: Example) -> tuple[bytes, str]:
        problem = example.problem_ids[0] if example.problem_ids else example.item
        return hashlib.sha256(f'{salt}/{problem}'.encode()).digest(), example.item

    return tuple(sorted(examples, key=rank))
