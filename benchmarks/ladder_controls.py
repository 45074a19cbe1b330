"""Controls of the ladder: `python -m benchmarks.ladder_controls --workdir=DIR --worlds=demo`.

In worlds that `benchmarks.ladder` made, for every held-out:

  placebos   another held-out of its domain in its place: its translation, weights fitted to the
             answers of the source with its adapter, a training on them: what is gained must come
             from the adapter's knowledge of the task
  2 x 2      a training on 32 answers (of 64), to prompts of the own kind and of other kinds, from
             the translated adapter on and from a fresh one
  bound      weights fitted to 32 labelled rows, from the translation on: what weights could reach
  source     the bare source, the source with the adapter (the teacher), on the same items

Scores are kept for each world.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from benchmarks import ladder as bench
from lorajax import io
from lorajax.distillation import distill, ladder
from lorajax.evaluation import evaluate as evaluation
from lorajax.experiment import models
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.tasks import examples
from lorajax.types import Adapter, JsonDict

_ITEMS = 100
_PROMPTS = 32
SOURCE = 'source, bare', 'source with the adapter'


def scores(root: pathlib.Path, name: str) -> JsonDict:
    """Returns the scores of a world."""
    stored = root / f'controls_{name.split()[0]}.json'
    if stored.exists():
        return io.read_json(stored)
    experiment = bench.world(root, name)
    sides, sources, start = bench.translated(experiment)
    made: dict[str, dict[str, Adapter]] = {task: {'map': start[task]} for task in sources}
    loaders = [functools.cache(functools.partial(models.load_side, experiment, s)) for s in SIDES]
    by_domain = bench.prompts_by_domain(experiment, 2 * _PROMPTS)
    recipe = dataclasses.replace(experiment.train_config, num_epochs=30)
    limits = ladder.Limits(32, experiment.max_len, 8)
    for domain in sorted(by_domain):
        group = [t for t in sources if tasks_by_name.get(t).domain == domain]
        swapped = dict(zip(group, [sources[task] for task in reversed(group)], strict=True))
        own = bench.chosen(by_domain, domain, 'own', _PROMPTS)
        reached = ladder.climb(
            *loaders, ladder.Anchors(*sides), swapped, {t: start[t] for t in group}, own, limits
        )
        other = dict(zip(group, reversed(group), strict=True))
        taught = distill(
            *loaders, swapped, bench.chosen(by_domain, domain, 'own', 2 * _PROMPTS), recipe,
            start_from={task: start[task] for task in group},
            answer_batch_size=32, max_len=experiment.max_len, max_new_tokens=8,
        )  # fmt: skip
        for task, one in reached.items():
            made[task]['placebo: another adapter translated'] = start[other[task]]
            made[task]['placebo: another teacher, weights'] = one.adapter
            made[task]['placebo: another teacher, training'] = taught[task]
        for kind in ('own', 'other'):
            prompts = bench.chosen(by_domain, domain, kind, 2 * _PROMPTS)
            for label, begin in (('translated', start), ('fresh', None)):
                trained = distill(
                    *loaders, {t: sources[t] for t in group}, prompts, recipe, start_from=begin,
                    answer_batch_size=32, max_len=experiment.max_len, max_new_tokens=8,
                )  # fmt: skip
                for task, adapter in trained.items():
                    made[task][f'trained on {kind}, {label}'] = adapter
    for task in sources:
        rows = examples.read(experiment.files.train_data(task))[:_PROMPTS]

        def labelled(chat, rows=rows, task=task):  # type: ignore[no-untyped-def]
            return examples.encode(chat, rows, experiment.max_len, task)

        made[task]['bound: weights fitted to labels'] = ladder.climb(
            *loaders, ladder.Anchors(*sides), {}, {task: start[task]}, (), limits,
            examples=labelled,
        )[task].adapter  # fmt: skip
    result: JsonDict = {'world': name, 'tasks': {}}
    for task, adapters in made.items():
        rows = examples.read(experiment.files.eval_data(task))[:_ITEMS]
        values: dict[str, list[tuple[float, float]]] = {}
        for side, tried in (
            (0, {SOURCE[0]: None, SOURCE[1]: sources[task]}),
            (1, {'base': None, **adapters, 'oracle': load_trained(experiment, 'target', task)}),
        ):
            for row in evaluation.evaluate(
                *loaders[side](), tasks_by_name.get(task), rows, tried,
                batch_size=_ITEMS, max_len=experiment.max_len, max_new_tokens=8,
            ):  # fmt: skip
                values.setdefault(row['method'], []).append((row['correct'], row['nll']))
        means = {way: np.mean(pairs, 0).tolist() for way, pairs in values.items()}
        result['tasks'][task] = {'methods': means}
    io.write_json(stored, result)
    return result


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    root = pathlib.Path(flags.FLAGS.workdir)
    worlds = []
    for name in flags.FLAGS.worlds:
        logging.info('world %s', name)
        worlds.append(scores(root, name))
    tasks = [task['methods'] for world in worlds for task in world['tasks'].values()]
    print('| | gap recovered, accuracy | gap recovered, NLL | exact match |')
    print('| --- | --- | --- | ---: |')
    for way in tasks[0]:
        cells = ['', '']
        if way not in (*SOURCE, 'base', 'oracle'):
            shares = (bench.over_worlds(worlds, way, column) for column in (0, 1))
            cells = ['{:.3f} [{:.3f}, {:.3f}]'.format(*share) for share in shares]
        print(f'| {way} | {cells[0]} | {cells[1]} | {np.mean([t[way][0] for t in tasks]):.3f} |')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where the worlds are', required=True)
    flags.DEFINE_list('worlds', ['demo'], 'which worlds')
    app.run(main)
