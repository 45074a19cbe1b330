"""Scores in toy worlds: means over a task's items, shares of the oracle's gain over tasks."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.evaluation import evaluate as evaluation
from lorajax.experiment import tasks
from lorajax.experiment.adapters import load_trained
from lorajax.experiment.config import Experiment
from lorajax.lora import pad_rank, stack
from lorajax.models import Model
from lorajax.models.stacked import forward
from lorajax.models.transformer import unembed
from lorajax.tasks import examples
from lorajax.tasks.batching import Batch, make_batch, shape_of
from lorajax.tasks.chat import ChatFormat, Encoded
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


def of_heldouts(
    loaded: tuple[Model, ChatFormat],
    experiment: Experiment,
    made: Mapping[str, Mapping[str, Adapter]],
    items: int = 100,
    **options: Any,
) -> JsonDict:
    """Returns what `gaps` reads: of each task the scores of its adapters, bare model and oracle.

    Args:
      loaded: target and chat format.
      experiment: whose held-outs they are.
      made: target adapters by task and way.
      items: how many of a task.
      options: of `evaluate`.
    """
    found = {}
    for task, adapters in made.items():
        tried = {'base': None, **adapters, 'oracle': load_trained(experiment, 'target', task)}
        found[task] = {'methods': of_task(loaded, experiment, task, tried, items, **options)}
    return found


@functools.partial(jax.jit, static_argnames='module')
def _forced(module, params, adapters, batch):  # type: ignore[no-untyped-def]
    """Returns the right answers float[A] and the nats per token float[A] of stacked adapters."""

    def one(adapter: Adapter) -> tuple[jax.Array, jax.Array]:
        hidden, _ = forward(module, params, adapter, batch.tokens, batch.segment_ids)
        before = jnp.take_along_axis(hidden, batch.target_index[..., None] - 1, axis=-2)
        logits = unembed(params, before)
        targets = jnp.take_along_axis(batch.tokens, batch.target_index, axis=-1)
        own = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        nll = (jax.nn.logsumexp(logits, axis=-1) - own) * batch.target_mask
        is_right = (logits.argmax(-1) == targets) | (batch.target_mask == 0)
        return is_right.all(-1).mean(), nll.sum() / batch.target_mask.sum()

    return jax.lax.map(one, adapters)


def forced(
    model: Model, chat: ChatFormat, rows: Sequence[Encoded], adapters: Mapping[str, Adapter]
) -> dict[str, list[float]]:
    """Returns what `of_task` does without decoding, the bare model as 'base'.

    An answer all of whose tokens are the likeliest is the answer that greedy decoding gives.
    """
    rank = max(np.shape(e['a'])[-1] for a in adapters.values() for e in a['layers'].values())
    padded = [pad_rank(a, rank) for a in adapters.values()]
    stacked = stack([jax.tree.map(np.zeros_like, padded[0]), *padded])
    batch = Batch(*map(jnp.asarray, make_batch(rows, len(rows), *shape_of(rows), chat.pad_id)))
    right, nll = _forced(model.module, model.params, stacked, batch)
    names = ['base', *adapters]
    return dict(zip(names, np.stack([right, nll], axis=1).tolist(), strict=True))


def share(tasks: Mapping[str, JsonDict], name: str, column: int) -> float:
    """Returns the pooled share of the oracle's gain of one world's tasks; see `gaps`."""
    base, found, oracle = (
        sum(task['methods'][who][column] for task in tasks.values())
        for who in ('base', name, 'oracle')
    )
    return (found - base) / (oracle - base)


def gaps(
    worlds: Sequence[JsonDict], name: str, column: int, *, others: bool = False
) -> list[float]:
    """Returns the pooled share of the oracle's gain and its 95 % interval.

    Args:
      worlds: of each the 'tasks', see `of_heldouts`.
      name: of a method.
      column: 0 for accuracy, 1 for nats per answer token.
      others: whether the interval is of other worlds, too, which is less certain than what other
        held-outs of these would give.

    Returns:
      [value, low, high]; the interval is a bootstrap over held-out tasks of each world, since
      tasks differ more than items do, and with `others` over worlds.
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

    size, count = rows.shape[:2]
    draws = []
    for _ in range(_DRAWS):
        drawn = rows[rng.integers(size, size=size)] if others else rows
        draws.append(ratio(np.stack([w[rng.integers(count, size=count)] for w in drawn])))
    return [ratio(rows), *np.quantile(draws, [0.025, 0.975]).tolist()]


def cells(worlds: Sequence[JsonDict], name: str, *, others: bool = False) -> list[str]:
    """Returns `gaps` as a table has them, in accuracy and in loss."""
    shares = (gaps(worlds, name, column, others=others) for column in (0, 1))
    return ['{:.3f} [{:.3f}, {:.3f}]'.format(*share) for share in shares]


def table(worlds: Sequence[JsonDict], without_gap: Sequence[str] = ()) -> str:
    """Returns the scores of worlds as a Markdown table, a line a way; intervals are of others, too.

    Args:
      worlds: see `gaps`.
      without_gap: ways of which only exact match is said, beside the bare model and the oracle.
    """
    tasks = [task['methods'] for world in worlds for task in world['tasks'].values()]
    lines = ['| | gap recovered, accuracy | gap recovered, NLL | exact match |',
             '| --- | --- | --- | ---: |']  # fmt: skip
    for way in tasks[0]:
        is_known = way in ('base', 'oracle', *without_gap)
        shares = ['', ''] if is_known else cells(worlds, way, others=True)
        right = np.mean([task[way][0] for task in tasks])
        lines.append(f'| {way} | {shares[0]} | {shares[1]} | {right:.3f} |')
    return '\n'.join(lines)
