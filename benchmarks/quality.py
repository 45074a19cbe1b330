"""Is the expected quality right? `python -m benchmarks.quality --workdir=DIR --worlds=m,n,o`.

In worlds of `benchmarks.ladder_worlds`, mappings are fitted on 1 to 16 of the anchors, and other
adapters are translated: what was expected of each (`mapping.quality`), with and without losses of
left-out anchors, is set beside what it was worth on the task's rows. Also says how the default map
gets on with more anchors. Writes a file for each world, so a killed call goes on where it stopped.
With `--table` it prints what `mapping/toy_shares.py` holds, made from all worlds that are named.
"""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from absl import app, flags

from benchmarks import ladder_worlds
from lorajax import mapping
from lorajax.evaluation import functional
from lorajax.experiment import models
from lorajax.experiment.adapters import load_trained
from lorajax.mapping import quality, toy_shares
from lorajax.rng import generator
from lorajax.tasks import examples
from lorajax.types import JsonDict

DRAWS = {1: 4, 2: 4, 3: 6, 4: 6, 6: 5, 8: 5, 12: 3, 16: 1}  # anchors -> how often they are drawn
_OTHERS = 10  # adapters translated by each mapping of fewer than all anchors
_ROWS = 32
_BANDS = 0.07, 0.35  # of distances, and of log2 of the number of anchors, for the table
_LEVELS = np.arange(0.05, 1.0, 0.1)


def measure(root: pathlib.Path, name: str) -> list[JsonDict]:
    """Returns one row for each translated adapter of a world."""
    experiment = ladder_worlds.make(root, name)
    source, target = (
        {task: load_trained(experiment, side, task) for task in experiment.tasks}
        for side in ('source', 'target')
    )
    model, chat = models.load_side(experiment, 'target')
    encoded = {
        task: [chat.encode(row) for row in examples.read(experiment.files.train_data(task))[:_ROWS]]
        for task in experiment.tasks
    }

    def loss(adapter, task):  # type: ignore[no-untyped-def]
        return functional.mean_loss(model, adapter, encoded[task], _ROWS, chat.pad_id)

    known = {
        task: {'none': loss(None, task), 'own': loss(target[task], task)}
        for task in experiment.tasks
    }
    rng, rows = generator(0, 'quality', name), []
    for count, draws in DRAWS.items():
        for draw in range(draws):
            chosen = sorted(rng.permutation(experiment.anchors)[:count].tolist())
            sides = [mapping.Anchors({t: side[t] for t in chosen}, 'side')
                     for side in (source, target)]  # fmt: skip
            fitted = mapping.fit(mapping.DEFAULT, *sides)
            plain = fitted.diagnostics
            left_out = fitted.left_out() if count > 2 else {}
            losses = {t: {**known[t], 'left_out': loss(a, t)} for t, a in left_out.items()}
            others = [task for task in experiment.tasks if task not in chosen]
            if count < 16:
                others = rng.permutation(others)[:_OTHERS].tolist()
            found = fitted.explain_many({task: source[task] for task in others})
            for task, prediction in found.items():
                report = prediction.report
                expected = quality.expect({**plain, quality.FUNCTIONAL: losses}, report)
                alone = quality.expect(plain, report)
                worth = known[task] | {'left_out': loss(prediction.adapter, task)}
                rows.append({
                    'world': name, 'anchors': count, 'draw': draw, 'task': task,
                    'heldout': task in experiment.heldouts,
                    'distance': report['distance_to_span'],
                    'share': quality.shares({task: worth})[task],
                    'measured': list(expected[:3]), 'toy_worlds': list(alone[:3]),
                    'refused': bool(plain['fallback']) or (
                        expected.share < 0 and (expected.is_measured or count < 4)
                    ),
                })  # fmt: skip
    return rows


def coverage(rows: Sequence[JsonDict]) -> str:
    """Returns how often the share lay in its 80 % interval, by number of anchors."""
    lines = [
        '| anchors | adapters | share, median | worse than none | in the interval, with left-out '
        'anchors | width | in the interval, toy worlds alone | width | refused, worse than none | '
        'written, worse than none |',
        '| ---: |' + ' ---: |' * 9,
    ]
    for count in DRAWS:
        chosen = [row for row in rows if row['anchors'] == count]
        shares = np.array([row['share'] for row in chosen])
        cells = [len(chosen), f'{np.median(shares):.2f}', f'{np.mean(shares < 0):.2f}']
        for way in ('measured', 'toy_worlds'):
            _, low, high = np.array([row[way] for row in chosen]).T
            cells += [f'{np.mean((low <= shares) & (shares <= high)):.2f}',
                      f'{np.mean(high - low):.2f}']  # fmt: skip
        refused = np.array([row['refused'] for row in chosen])
        for is_so in (refused, ~refused):
            cells.append(f'{int((shares[is_so] < 0).sum())} of {int(is_so.sum())}')
        lines.append(f'| {count} | ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join(lines) + '\n'


def toy_table(rows: Sequence[JsonDict]) -> str:
    """Returns the body of `toy_shares.SHARES`."""
    counts, distances, shares = (
        np.array([row[name] for row in rows]) for name in ('anchors', 'distance', 'share')
    )
    text = ''
    for count in toy_shares.SHARES:
        near = np.exp(-0.5 * ((np.log2(counts) - np.log2(count)) / _BANDS[1]) ** 2)
        places = toy_shares.DISTANCES if count > 2 else (None,)
        text += f'    {count}: (\n'
        for place in places:
            weights = near + 1e-12
            if place is not None:
                weights = weights * np.exp(-0.5 * ((distances - place) / _BANDS[0]) ** 2)
            values = quality.quantiles(shares, weights, _LEVELS.tolist())
            text += '        (' + ', '.join(f'{value:.2f}' for value in values) + '),\n'
        text += '    ),\n'
    return text


def main(argv: Sequence[str]) -> None:
    """Prints the table that is asked for."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    found = ladder_worlds.measured(root, args.worlds, 'quality', measure)
    rows = [row for of_world in found for row in of_world]
    show: Callable[[Sequence[JsonDict]], str] = toy_table if args.table else coverage
    print(show(rows))


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where the worlds are', required=True)
    flags.DEFINE_list('worlds', list(ladder_worlds.WORLDS), 'which worlds')
    flags.DEFINE_bool('table', False, 'print the table of toy_shares instead')
    app.run(main)
