"""Scores in toy worlds: means over a task's items, shares of the oracle's gain over tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorajax.evaluation import evaluate as evaluation
from lorajax.experiment import tasks
from lorajax.experiment.config import Experiment
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat
from lorajax.types import Adapter, JsonDict

_DRAWS = 2000  # of the bootstrap


def of_task(
    loaded: tuple[Model, ChatFormat],
    experiment: Experiment,
    task: str,
    adapters: Mapping[str, Adapter | None],
    items: int = 100,
    **options: Any,
) -> dict[str, list[float]]:
    """Returns the mean accuracy and nats per answer token of each adapter.

    Args:
      loaded: base and chat format.
      experiment: whose evaluation items are asked.
      task: that they are of.
      adapters: by name; None for the base alone.
      items: how many.
      options: of `evaluate`.
    """
    rows = evaluation.evaluate(
        *loaded, tasks.get(task), examples.read(experiment.files.eval_data(task))[:items],
        dict(adapters), batch_size=100, max_len=experiment.max_len, max_new_tokens=8, **options,
    )  # fmt: skip
    values: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        values.setdefault(row['method'], []).append((row['correct'], row['nll']))
    return {name: np.mean(pairs, 0).tolist() for name, pairs in values.items()}


def gaps(worlds: Sequence[JsonDict], name: str, column: int) -> list[float]:
    """Returns the pooled share of the oracle's gain and its 95 % interval.

    Args:
      worlds: of each the 'tasks', and of a task the means of its 'methods', as `of_task` has them.
      name: of a method.
      column: 0 for accuracy, 1 for nats per answer token.

    Returns:
      [value, low, high]; the interval is a bootstrap over held-out tasks of each world, since
      tasks differ more than items do.
    """
    rows = np.array(
        [
            [
                [task['methods'][who][column] for who in ('base', name, 'oracle')]
                for task in world['tasks'].values()
            ]
            for world in worlds
        ]
    )
    rng = np.random.default_rng(0)

    def ratio(chosen: np.ndarray) -> float:
        base, method, oracle = chosen.reshape(-1, 3).sum(0)
        return float((method - base) / (oracle - base))

    count = rows.shape[1]
    draws = [
        ratio(np.stack([world[rng.integers(count, size=count)] for world in rows]))
        for _ in range(_DRAWS)
    ]
    return [ratio(rows), *np.quantile(draws, [0.025, 0.975]).tolist()]
