"""What of a style arrives, part by part: `python -m benchmarks.stories --workdir=runs/stories`.

Reads the outcomes of a run of launch/stories.flags. A style counts as followed when form of the
words, case and ending of the sentences are all right; the first table says which of them are,
over the held-outs that have these parts, beside the share of the gap in loss; the second has the
styles of their own. Intervals, also of what a method is above `mean` and `nearest`, are of a
bootstrap over held-outs and over items within each. Then texts, each method's first of a held-out.

`--ways=trained --prompts=32` lets the held-outs climb with so many prompts first (`story_rungs`);
`--ways=sums` adds up the target's anchors by the styles' parts. What they write is kept in
`rungs.jsonl`, a killed call goes on with the next style. Other models' answers end otherwise, which
the run knows; `--tasks` and `--items` take some of them alone.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags, logging

from benchmarks import story_rungs
from benchmarks.text_worlds import experiment_of
from lorajax import io
from lorajax.evaluation import intervals
from lorajax.stories.tasks import TASKS
from lorajax.tasks.styles import STYLES
from lorajax.types import JsonDict

_PARTS = ('form', 'case', 'ending')
_RIVALS = ('mean', 'nearest')
_DRAWS = 2000
_KEPT = 'rungs.jsonl'  # in the run's directory
_SUMS = 'sums'  # a way that asks nobody

# task -> method -> float[items, 2]: nats per token, and whether the whole style is there
Scores = Mapping[str, Mapping[str, np.ndarray]]


def read(workdir: pathlib.Path) -> dict[str, dict[str, list[JsonDict]]]:
    """Returns the outcomes of a run: task -> method -> rows in the order of the items.

    Of methods that are not there for all, the held-outs and the items that all have.
    """
    found: dict[str, dict[str, list[JsonDict]]] = {}
    more = workdir / _KEPT
    paths = sorted((workdir / 'outcomes').glob('story_*.jsonl')) + ([more] if more.exists() else [])
    for row in (dict(row) for path in paths for row in io.read_jsonl(path)):
        found.setdefault(row['task'], {}).setdefault(row['method'], []).append(row)
    methods = {name for by_method in found.values() for name in by_method}
    whole = {task: of for task, of in found.items() if of.keys() == methods}
    return {
        task: {name: rows[: min(map(len, of.values()))] for name, rows in of.items()}
        for task, of in whole.items()
    }


def climb(workdir: pathlib.Path, tasks: Sequence[str], ways: Sequence[str], count: int) -> None:
    """Lets held-outs climb, style by style, and keeps what they write."""
    experiment = experiment_of(workdir)
    path = workdir / _KEPT
    rows = [dict(row) for row in io.read_jsonl(path)] if path.exists() else []
    for way in ways:
        name = way if way == _SUMS else f'{way}, {count}'
        done = {row['task'] for row in rows if row['method'].startswith(name)}
        missing = [task for task in tasks or experiment.heldouts if task not in done]
        reached = {}
        if missing and way != _SUMS:
            reached = story_rungs.climbed(experiment, missing, way, count)
        for task in missing:
            if way == _SUMS:
                made = story_rungs.sums_of_parts(experiment, task)
            else:
                made = {name: reached[task].adapter}
                logging.info('%s, %s: %s %s', task, name, reached[task].rung, reached[task].losses)
            rows += story_rungs.score(experiment, task, made, flags.FLAGS.items)
            io.write_jsonl(path, rows)


def _followed(task: str, row: JsonDict) -> dict[str, bool]:
    """Which parts of its style a text has."""
    return STYLES[task.removeprefix('story_')].parts(row['prediction'])


def scores(outcomes: Mapping[str, Mapping[str, Sequence[JsonDict]]]) -> Scores:
    """Returns what is resampled."""
    return {
        task: {
            method: np.array([[row['nll'], all(_followed(task, row).values())] for row in rows])
            for method, rows in by_method.items()
        }
        for task, by_method in outcomes.items()
    }


def draws(found: Scores) -> dict[str, np.ndarray]:
    """Returns method -> float[draws + 1, 2], loss gap and share in style, first of all items.

    Held-outs are drawn with replacement, then items of each; all methods see the same ones.
    """
    generator = np.random.default_rng(intervals.SEED)
    tasks = list(found)
    methods = list(found[tasks[0]])
    means = np.zeros((_DRAWS + 1, len(methods), 2))
    for draw in range(_DRAWS + 1):
        chosen = (
            tasks if not draw else [tasks[i] for i in generator.integers(0, len(tasks), len(tasks))]
        )
        for task in chosen:
            rows = np.stack([found[task][method] for method in methods])
            count = rows.shape[1]
            items = generator.integers(0, count, count) if draw else np.arange(count)
            means[draw] += rows[:, items].mean(1) / len(tasks)
    base, own = (means[:, methods.index(name), 0] for name in ('base', 'oracle'))
    gaps = (base[:, None] - means[..., 0]) / (base - own)[:, None]
    return {m: np.stack([gaps[:, i], means[:, i, 1]], 1) for i, m in enumerate(methods)}


def _shown(values: np.ndarray) -> str:
    """A number and its 95 % interval; values[0] is that of all items."""
    low, high = intervals.percentiles(values[1:])
    return f'{values[0]:.2f} [{low:.2f}, {high:.2f}]'


def table(outcomes: Mapping[str, Mapping[str, Sequence[JsonDict]]], parts: Sequence[str]) -> str:
    """Returns a Markdown table, one line a method.

    Args:
      outcomes: of held-outs that have the same parts.
      parts: of their styles, none for those of their own.
    """
    drawn = draws(scores(outcomes))
    rivals = [name for name in _RIVALS if name in drawn]
    above = [f'{what} above {name}' for name in rivals for what in ('loss gap', 'style')]
    titles = ['method', 'whole style', *parts, 'loss gap', *above]
    lines = ['| ' + ' | '.join(titles) + ' |', '| --- |' + ' ---: |' * (len(titles) - 1)]
    for name, values in drawn.items():
        rows = [_followed(t, row) for t, by in outcomes.items() for row in by.get(name, ())]
        cells = [_shown(values[:, 1]), *(f'{np.mean([r[p] for r in rows]):.2f}' for p in parts)]
        cells.append(_shown(values[:, 0]))
        cells += [_shown(values[:, i] - drawn[rival][:, i]) for rival in rivals for i in (0, 1)]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def texts(outcomes: Mapping[str, Mapping[str, Sequence[JsonDict]]], methods: Sequence[str]) -> str:
    """Returns what methods write for the first item of each held-out."""
    lines = ['| held-out | method | text |', '| --- | --- | --- |']
    for task, by_method in outcomes.items():
        for name in methods:
            if name in by_method:
                text = by_method[name][0]['prediction'].replace('|', ' ').replace('\n', ' ')
                lines.append(f'| {task.removeprefix("story_")} | {name} | {text[:110]} |')
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str]) -> None:
    """Prints both tables and some texts."""
    del argv
    args = flags.FLAGS
    workdir = pathlib.Path(args.workdir)
    if args.ways:
        climb(workdir, args.tasks, args.ways, args.prompts)
    found = read(workdir)
    alone = [task for task in found if TASKS[task].domain == 'other']
    if len(alone) < len(found):
        print(table({task: by for task, by in found.items() if task not in alone}, _PARTS))
    if alone:
        print(table({task: found[task] for task in alone}, ()))
    print(texts(found, args.texts))


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'of the run', required=True)
    flags.DEFINE_list(
        'ways', [], f'to climb: {", ".join(story_rungs.WAYS)}; sums of parts: {_SUMS}'
    )
    flags.DEFINE_integer('prompts', 32, 'that they climb with')
    flags.DEFINE_list('tasks', [], 'held-outs that climb; all if none')
    flags.DEFINE_integer('items', 60, 'of each that are written')
    flags.DEFINE_list(
        'texts', ['base', 'nearest', 'matched_scaled', 'reweighted', 'distilled', 'oracle'],
        'methods whose texts are shown',
    )  # fmt: skip
    app.run(main)
