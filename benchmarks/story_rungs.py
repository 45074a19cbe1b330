"""What asking the source is worth in a run of styles; a part of `benchmarks.stories`.

Held-outs of a finished run of launch/stories.flags climb from the map with some of their own
prompts, whose answers nobody reads: anchors put together anew, a training on the answers from the
map on, or both in turn. Parts of the styles known exactly, and the target's own anchors summed up
by these, bound what any map can do.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from lorajax import mapping
from lorajax.distillation import ladder
from lorajax.evaluation import evaluate as evaluation
from lorajax.experiment import adapters, methods, models
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.mapping.combination import combine_updates
from lorajax.tasks import examples
from lorajax.tasks.styles import CASES, ENDINGS, FORMS
from lorajax.types import Adapter, JsonDict

# Way -> whether anchors are put together anew, and whether a training follows.
WAYS = {'reweighted': (True, False), 'trained': (False, True), 'both': (True, True)}
_NEW_TOKENS = 150  # of an answer; some models never end one
_PENALTIES = (0.01, 0.3)  # of the weights of parts


def climbed(
    experiment: Experiment, tasks: Sequence[str], way: str, count: int
) -> dict[str, ladder.Reached]:
    """Climbs one way with the first prompts of the first held-out, which are all the same text.

    Args:
      experiment: a finished run.
      tasks: its held-outs that climb together.
      way: one of `WAYS`.
      count: prompts.
    """
    with_cores, with_training = WAYS[way]
    source, target = adapters.load_anchors(experiment)
    options = {**methods.options(experiment), 'output_rank': experiment.lora_rank}
    fitted = mapping.fit(experiment.distill_from, source, target, **options)
    queries = {task: adapters.load_trained(experiment, 'source', task) for task in tasks}
    rows = examples.read(experiment.files.train_data(experiment.heldouts[0]))[:count]
    load_source, load_target = (
        functools.partial(models.load_side, experiment, side) for side in SIDES
    )
    return ladder.climb(
        load_source,
        load_target,
        ladder.Anchors(source.trees, target.trees),
        queries,
        {task: one.adapter for task, one in fitted.explain_many(queries).items()},
        [row.asked for row in rows],
        ladder.Limits(64, experiment.max_len, experiment.max_new_tokens or _NEW_TOKENS),
        training=experiment.train_config if with_training else None,
        with_cores=with_cores,
    )


def sums_of_parts(experiment: Experiment, task: str) -> dict[str, Adapter]:
    """Returns the target's anchors added up by a style's parts, by least squares on all styles'."""
    _, target = adapters.load_anchors(experiment)
    parts = np.stack([_parts(name) for name in target.tasks])
    made = {}
    for penalty in _PENALTIES:
        inverse = np.linalg.inv(parts.T @ parts + penalty * np.eye(parts.shape[1]))
        weights = _parts(task) @ inverse @ parts.T
        rows = np.broadcast_to(weights, (1, len(target.tensors), len(weights)))
        for rank in (experiment.lora_rank, 8 * experiment.lora_rank):
            ((adapter, _),) = combine_updates(target.frame, rows, rank)
            made[f'sums, penalty {penalty}, rank {rank}'] = adapter
    return made


def _parts(task: str) -> np.ndarray:
    """Returns float[parts], 1 where a style has a part; the first is 1 for all."""
    words = task.removeprefix('story_').split('_')
    marks = [1.0]
    for kind in (FORMS, CASES, ENDINGS):
        own = next((word for word in words if word in kind), 'plain')
        marks += [float(name == own) for name in kind]
    return np.array(marks)


def score(
    experiment: Experiment, task: str, made: Mapping[str, Adapter], items: int
) -> list[JsonDict]:
    """Returns the outcomes of adapters of one held-out on the first items of the run's."""
    model, chat = _target(experiment)
    rows = examples.read(experiment.files.eval_data(task))[:items]
    return evaluation.evaluate(
        model, chat, tasks_by_name.get(task), rows, dict(made),
        batch_size=len(rows), max_len=experiment.max_len,
        max_new_tokens=experiment.max_new_tokens or _NEW_TOKENS,
    )  # fmt: skip


@functools.cache
def _target(experiment: Experiment):  # type: ignore[no-untyped-def]
    """Loads the target once."""
    return models.load_side(experiment, 'target')
