"""What every rung is worth in toy worlds: `python -m benchmarks.ladder --workdir=DIR`.

Makes the worlds that are missing (the demo's from the shipped models), translates the held-outs by
the default map, climbs with 8 and 32 prompts of the task's own kind, of all kinds, of both other
kinds and of one of them alone, and scores all of them beside the bare target and the oracle.
Prompts are rows on which the held-out's adapters were not trained; nobody reads their answers.
Scores are kept, so a killed call goes on where it stopped. Writes `ladder.json` and `ladder.md`.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from benchmarks import ladder_worlds as worlds
from benchmarks import toy_scores, toy_worlds
from lorajax import io
from lorajax.distillation import ladder
from lorajax.experiment import models
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import load_predicted
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.map import fit_and_predict
from lorajax.types import Adapter, JsonDict

KINDS = ('own', 'mixed', 'other', 'one other')
COUNTS = (8, 32)
TRAINED = 'distilled from own, 32'
LABELS = 8
_ITEMS = 100


def climbed(
    experiment: Experiment, kinds: Sequence[str], with_training: bool
) -> tuple[dict[str, dict[str, Adapter]], dict[str, JsonDict]]:
    """Climbs with every kind and number of prompts; with a training and with labels if asked for.

    Returns:
      task -> way -> target adapter, and way -> what was noted: seconds, losses and rungs.
    """
    sides, sources, start = worlds.translated(experiment)
    made: dict[str, dict[str, Adapter]] = {task: {'map': start[task]} for task in sources}
    facts: dict[str, JsonDict] = {'map': {}}
    loaders = worlds.loaders(experiment)
    by_domain = worlds.prompts_by_domain(experiment, max(COUNTS))

    def climb(way: str, group: Sequence[str], prompts: Sequence[str], **options: object) -> None:
        begin = time.monotonic()
        reached = ladder.climb(
            *loaders, ladder.Anchors(*sides),
            {task: sources[task] for task in group}, {task: start[task] for task in group},
            prompts, ladder.Limits(32, experiment.max_len, 8), **options,
        )  # fmt: skip
        fact = facts.setdefault(way, dict(seconds=0.0, rungs={}, losses={}, floors={}, learned={}))
        fact['seconds'] += time.monotonic() - begin
        for task, one in reached.items():
            made[task][way] = one.adapter
            fact['rungs'][task], fact['losses'][task] = one.rung, dict(one.losses)
            fact['floors'][task] = one.floor
            fact['learned'][task] = one.learned

    for domain in sorted(by_domain):
        group = [t for t in sources if tasks_by_name.get(t).domain == domain]
        for kind in kinds:
            for count in COUNTS:
                prompts = worlds.chosen(by_domain, domain, kind, count)
                climb(f'{kind}, {count}', group, prompts)
        if with_training:
            climb(
                TRAINED, group, worlds.chosen(by_domain, domain, 'own', 32),
                training=dataclasses.replace(experiment.train_config, num_epochs=30),
            )  # fmt: skip
    for task in sources if with_training else ():
        labelled = worlds.labels(experiment, task, LABELS)
        climb(f'few-shot, {LABELS} labels', [task], (), examples=labelled)
    return made, facts


def scores(
    root: pathlib.Path, name: str, kinds: Sequence[str], with_training: bool, with_distilled: bool
) -> JsonDict:
    """Makes a world, climbs in it and scores the results."""
    experiment = worlds.make(root, name)
    result: JsonDict = {'world': name, 'trained': toy_worlds.check(experiment, _ITEMS)}
    made, result['facts'] = climbed(experiment, kinds, with_training)
    if with_distilled:
        run = dataclasses.replace(experiment, methods=('distilled',), diagnostics=False)
        fit_and_predict(run)
        for task in made:
            made[task]['distilled from 800 of 1600'] = load_predicted(run, 'distilled', task)
    loaded = models.load_side(experiment, 'target')
    result['tasks'] = toy_scores.of_heldouts(loaded, experiment, made, _ITEMS)
    return result


def table(found: Sequence[JsonDict]) -> str:
    """Returns pooled shares of the gap as a Markdown table, one column a world.

    Intervals are of other worlds, too; see `toy_scores.gaps`.
    """
    ways = [w for w in next(iter(found[0]['tasks'].values()))['methods']
            if w not in ('base', 'oracle')]  # fmt: skip
    heads = [world['world'] for world in found]
    lines = [
        '| rung, prompts | gap recovered, accuracy | gap recovered, NLL | ' + ' | '.join(heads)
        + ' | s an adapter |',
        '| --- | --- | --- |' + ' ---: |' * (len(heads) + 1),
    ]  # fmt: skip
    for way in ways:
        known = [w for w in found if all(way in t['methods'] for t in w['tasks'].values())]
        cells = toy_scores.cells(known, way, others=True)
        cells += [f'{toy_scores.gaps([w], way, 0)[0]:.3f}' if w in known else '' for w in found]
        seconds = [
            w['facts'][way]['seconds'] / len(w['tasks'])
            for w in known
            if 'seconds' in w['facts'].get(way, {})
        ]
        cells.append(f'{np.mean(seconds):.1f}' if seconds else '')
        lines.append(f'| {way} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str]) -> None:
    """Prints and writes the table."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    measure = functools.partial(
        scores, kinds=args.kinds, with_training=args.training, with_distilled=args.distilled
    )
    found = []
    for world in worlds.measured(root, args.worlds, 'ladder', measure):
        found.append(world)
        io.write_json(root / 'ladder.json', found)
        text = table(found)
        io.write_text(root / 'ladder.md', text)
        print(text, flush=True)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where worlds and scores are kept', required=True)
    flags.DEFINE_list('worlds', list(worlds.WORLDS), 'which worlds')
    flags.DEFINE_list('kinds', list(KINDS), 'of prompts')
    flags.DEFINE_bool('training', True, 'also train on 32 answers, and fit to labels')
    flags.DEFINE_bool('distilled', True, 'also distil as a run does, a training of 100 steps')
    app.run(main)
