"""How a map grows with its anchors: `python -m benchmarks.anchor_curve --workdir=DIR`.

The first 4, 8, 12 and 16 anchors of worlds of `benchmarks.ladder_worlds`, drawn to
`anchor_curve.png`. `--nine`: up to 48 anchors of the world of `benchmarks.nine_shifts`, in three
splits of the same adapters. `--climbs` adds what 8 prompts of the held-outs' kind are worth from so
many of the 48 anchors. Answers are scored teacher-forced.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags, logging

from benchmarks import ladder_worlds, nine_shifts, toy_scores
from lorajax import io, mapping
from lorajax.distillation import ladder
from lorajax.experiment import models
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.lora import pad_rank
from lorajax.tasks import examples
from lorajax.types import Adapter, JsonDict

METHODS = ('global_ridge', 'delta_ridge', 'matched_ridge', 'matched_scaled', 'span_oracle_tensor')
WORLDS = ('f', 'm', 'i', 'o')  # all with shared factors
COUNTS, MANY = (4, 8, 12, 16), (4, 8, 16, 32, 48)
SPLITS = (nine_shifts.SEED, 0x7680, 0x43F0)  # of the 54 functions; digits of the same commit
_ITEMS = 100
_PROMPTS, _CLIMBED = 8, 'reweighted, 8 prompts'


class Split(NamedTuple):
    """Adapters of which some are anchors, in the order in which they are drawn.

    Attributes:
      experiment: that trained them.
      heldouts: tasks that are predicted.
      others: all other tasks, shuffled.
    """

    experiment: Experiment
    heldouts: Sequence[str]
    others: Sequence[str]


def of_world(experiment: Experiment) -> Split:
    """Returns the split of a world, its anchors in an order drawn with the world's own seed."""
    order = np.random.default_rng(experiment.seed).permutation(len(experiment.anchors))
    return Split(experiment, experiment.heldouts, [experiment.anchors[i] for i in order])


def of_nine(experiment: Experiment, seed: int) -> Split:
    """Returns one of the splits of all 54 functions."""
    heldouts = [f.task for f in nine_shifts.language(seed).split()[1]]
    others = [task for task in experiment.tasks if task not in heldouts]
    order = np.random.default_rng(seed).permutation(len(others))
    return Split(experiment, heldouts, [others[i] for i in order])


def reweighted(
    split: Split,
    sides: Sequence[Mapping[str, Adapter]],
    trained: Mapping[str, Mapping[str, Adapter]],
) -> dict[str, Adapter]:
    """Returns what the ladder makes of each held-out with `_PROMPTS` prompts of its kind.

    Args:
      split: whose held-outs climb.
      sides: the anchors' adapters of both models.
      trained: all adapters by side.
    """
    experiment = dataclasses.replace(
        split.experiment, anchors=tuple(sides[0]), heldouts=tuple(split.heldouts)
    )
    loaders = ladder_worlds.loaders(experiment)
    fitted, made = mapping.fit(ladder_worlds.METHOD, *sides), {}
    for domain, prompts in ladder_worlds.prompts_by_domain(experiment, _PROMPTS).items():
        group = [t for t in split.heldouts if tasks_by_name.get(t).domain == domain]
        sources = {task: trained['source'][task] for task in group}
        reached = ladder.climb(
            *loaders, ladder.Anchors(*sides), sources,
            {task: fitted.predict(adapter) for task, adapter in sources.items()},
            prompts, ladder.Limits(32, experiment.max_len, 8),
        )  # fmt: skip
        made.update({task: one.adapter for task, one in reached.items()})
    return made


def curve(split: Split, counts: Sequence[int], climbs: Sequence[int] = ()) -> JsonDict:
    """Returns shares of the gap, 'oracle' -> [accuracy, NLL], method -> count -> the same.

    Args:
      split: adapters.
      counts: of anchors.
      climbs: those of them from which held-outs also climb the ladder.
    """
    experiment, heldouts, others = split
    trained = {
        side: {t: nine_shifts.load_final(experiment, side, t) for t in [*heldouts, *others]}
        for side in SIDES
    }
    model, chat = models.load_side(experiment, 'target')
    encoded = {
        task: examples.encode(
            chat,
            list(tasks_by_name.get(task).pools(None, 'direct').eval[:_ITEMS]),  # type: ignore[arg-type]
            experiment.max_len,
            task,
        )
        for task in heldouts
    }
    found: JsonDict = {}
    for count in counts:
        sides = [{t: trained[side][t] for t in others[:count]} for side in SIDES]
        made: dict[str, dict[str, Adapter]] = {task: {} for task in heldouts}
        for method in METHODS:
            fitted = mapping.fit(method, *sides, output_rank=16)
            side = mapping.METHODS[method].query_side
            queries = {task: trained[side][task] for task in heldouts}
            for task, one in fitted.explain_many(queries).items():
                made[task][method] = one.adapter
        if count in climbs:
            for task, adapter in reweighted(split, sides, trained).items():
                made[task][_CLIMBED] = adapter
        scored = {}
        for task, adapters in made.items():
            oracle = pad_rank(trained['target'][task], 16)
            tried = {**adapters, 'oracle': oracle}
            scored[task] = {'methods': toy_scores.forced(model, chat, encoded[task], tried)}
        for method in made[heldouts[0]]:
            shares = [toy_scores.share(scored, method, column) for column in (0, 1)]
            found.setdefault(method, {})[str(count)] = shares
        oracles = [task['methods']['oracle'] for task in scored.values()]
        found['lowest oracle'] = min(right for right, _ in oracles)
        found['oracle'] = np.mean(oracles, axis=0).tolist()
    logging.info('%s: %s', experiment.workdir, found)
    return found


def draw(found: Sequence[JsonDict], path: pathlib.Path) -> None:
    """Prints the mean curves of several splits as a table, with their range, and draws them."""
    counts = list(found[0][METHODS[0]])
    print('| method | ' + ' | '.join(f'{n} anchors' for n in counts) + ' |')
    print('| --- |' + ' ---: |' * len(counts))
    fig, axis = plt.subplots(figsize=(6, 3.6), layout='constrained')
    for method in [*METHODS, *({_CLIMBED} & set(found[0]))]:
        rows = {n: np.array([one[method][n][0] for one in found]) for n in found[0][method]}
        cells = {n: f'{r.mean():.3f} ({r.min():.2f} to {r.max():.2f})' for n, r in rows.items()}
        print(f'| {method} | ' + ' | '.join(cells.get(n, '') for n in counts) + ' |')
        style, means = ':' if method.startswith('span') else '-', [r.mean() for r in rows.values()]
        axis.plot([int(n) for n in rows], means, f'o{style}', label=method)
    print('exact match of the oracles:', [round(one['oracle'][0], 3) for one in found])
    print('lowest of one held-out:', [round(one['lowest oracle'], 3) for one in found])
    axis.set_xscale('log', base=2)
    axis.set_xticks([int(n) for n in counts], counts)
    axis.set_xlabel('anchors')
    axis.set_ylabel('gap recovered, accuracy')
    axis.legend(fontsize=8)
    with io.atomic_file(path) as partial:
        fig.savefig(partial, format='png', dpi=150)
    plt.close(fig)


def main(argv: Sequence[str]) -> None:
    """Prints and draws what is asked for."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    few = [of_world(ladder_worlds.make(root, name)) for name in args.worlds]
    if few:
        draw([curve(split, COUNTS) for split in few], root / 'anchor_curve.png')
    if args.nine:
        experiment, climbs = nine_shifts.make(root), [int(n) for n in args.climbs]
        found = [curve(of_nine(experiment, seed), MANY, climbs) for seed in SPLITS]
        io.write_json(root / 'anchor_curve.json', found)
        draw(found, root / 'anchor_curve_nine.png')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where worlds are kept', required=True)
    flags.DEFINE_list('worlds', list(WORLDS), 'of benchmarks.ladder_worlds, those of few anchors')
    flags.DEFINE_list('climbs', ['16', '48'], 'numbers of anchors to climb the ladder from')
    flags.DEFINE_bool('nine', False, 'also the curve of 54 functions, which pretrains two models')
    app.run(main)
