"""Controls of the ladder: `python -m benchmarks.ladder_controls --workdir=DIR --worlds=demo`.

In worlds of `benchmarks.ladder_worlds`, for every held-out:

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
import pathlib
from collections.abc import Sequence

from absl import app, flags

from benchmarks import ladder_worlds as worlds
from benchmarks import toy_scores
from lorajax.distillation import distill, ladder
from lorajax.experiment import tasks as tasks_by_name
from lorajax.types import Adapter, JsonDict

_PROMPTS = 32
SOURCE = 'source, bare', 'source with the adapter'


def scores(root: pathlib.Path, name: str) -> JsonDict:
    """Returns the scores of a world."""
    experiment = worlds.make(root, name)
    sides, sources, start = worlds.translated(experiment)
    made: dict[str, dict[str, Adapter]] = {task: {'map': start[task]} for task in sources}
    loaders = worlds.loaders(experiment)
    by_domain = worlds.prompts_by_domain(experiment, 2 * _PROMPTS)
    recipe = dataclasses.replace(experiment.train_config, num_epochs=30)
    limits = ladder.Limits(32, experiment.max_len, 8)
    for domain in sorted(by_domain):
        group = [t for t in sources if tasks_by_name.get(t).domain == domain]
        swapped = dict(zip(group, [sources[task] for task in reversed(group)], strict=True))
        own = worlds.chosen(by_domain, domain, 'own', _PROMPTS)
        reached = ladder.climb(
            *loaders, ladder.Anchors(*sides), swapped, {t: start[t] for t in group}, own, limits
        )
        other = dict(zip(group, reversed(group), strict=True))
        taught = distill(
            *loaders, swapped, worlds.chosen(by_domain, domain, 'own', 2 * _PROMPTS), recipe,
            start_from={task: start[task] for task in group},
            answer_batch_size=32, max_len=experiment.max_len, max_new_tokens=8,
        )  # fmt: skip
        for task, one in reached.items():
            made[task]['placebo: another adapter translated'] = start[other[task]]
            made[task]['placebo: another teacher, weights'] = one.adapter
            made[task]['placebo: another teacher, training'] = taught[task]
        for kind in ('own', 'other'):
            prompts = worlds.chosen(by_domain, domain, kind, 2 * _PROMPTS)
            for label, begin in (('translated', start), ('fresh', None)):
                trained = distill(
                    *loaders, {t: sources[t] for t in group}, prompts, recipe, start_from=begin,
                    answer_batch_size=32, max_len=experiment.max_len, max_new_tokens=8,
                )  # fmt: skip
                for task, adapter in trained.items():
                    made[task][f'trained on {kind}, {label}'] = adapter
    for task in sources:
        made[task]['bound: weights fitted to labels'] = ladder.climb(
            *loaders, ladder.Anchors(*sides), {}, {task: start[task]}, (), limits,
            examples=worlds.labels(experiment, task, _PROMPTS),
        )[task].adapter  # fmt: skip
    source, target = (load() for load in loaders)
    tasks = toy_scores.of_heldouts(target, experiment, made)
    for task, adapter in sources.items():
        tried = {SOURCE[0]: None, SOURCE[1]: adapter}
        known = toy_scores.of_task(source, experiment, task, tried)
        tasks[task]['methods'] = {**known, **tasks[task]['methods']}
    return {'world': name, 'tasks': tasks}


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    args = flags.FLAGS
    found = worlds.measured(pathlib.Path(args.workdir), args.worlds, 'controls', scores)
    print(toy_scores.table(list(found), without_gap=SOURCE))


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where the worlds are', required=True)
    flags.DEFINE_list('worlds', ['demo'], 'which worlds')
    app.run(main)
