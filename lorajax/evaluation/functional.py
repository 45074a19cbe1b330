"""Functional leave-one-out: left-out predictions of the anchors, run on the anchors' own rows.

What a map is worth is what its adapters do, not how near they are to others. Here every anchor is
predicted from the other anchors, and the target model says how likely it makes the anchor's own
rows: without an adapter, with the prediction, and with the anchor itself. No held-out is looked at.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lorajax.evaluation.inference import answer_nll
from lorajax.mapping import TransferMap
from lorajax.models import Model
from lorajax.progress import Progress
from lorajax.tasks.chat import Encoded
from lorajax.types import Adapter

NONE, LEFT_OUT, OWN = 'none', 'left_out', 'own'
Losses = dict[str, dict[str, float]]  # task -> adapter -> nats per token


def leave_one_out(
    model: Model,
    pad_id: int,
    fitted: TransferMap,
    anchors: Mapping[str, Adapter],
    rows: Mapping[str, Sequence[Encoded]],
    batch_size: int,
    known: Losses | None = None,
) -> Losses:
    """Returns the losses of every anchor that has rows.

    Args:
      model: the target.
      pad_id: fills batches.
      fitted: a mapping that was just fitted and `can_leave_out`.
      anchors: adapters of the target by task.
      rows: labelled rows by task.
      batch_size: rows scored together.
      known: result for another mapping of the same anchors and rows, whose losses without a
        prediction are taken over.

    Raises:
      InputError: if the mapping cannot leave anchors out.
    """
    predicted = fitted.left_out()
    losses: Losses = {}
    tasks = [task for task in fitted.tasks if task in rows]
    with Progress(f'left out by {fitted.method}', len(tasks)) as progress:
        for task in tasks:
            adapters: dict[str, Adapter | None] = {LEFT_OUT: predicted[task]}
            if known is None:
                adapters |= {NONE: None, OWN: anchors[task]}
            found = {
                name: mean_loss(model, adapter, rows[task], batch_size, pad_id)
                for name, adapter in adapters.items()
            }
            losses[task] = found if known is None else {**known[task], **found}
            progress.update()
    return losses


def mean_loss(
    model: Model, adapter: Adapter | None, rows: Sequence[Encoded], batch_size: int, pad_id: int
) -> float:
    """Returns the mean over rows of nats per answer token.

    Args:
      model: the base.
      adapter: one adapter; None for the base alone.
      rows: prompts and answers.
      batch_size: rows at a time.
      pad_id: fills batches.
    """
    parts = [
        answer_nll(model, adapter, rows[i : i + batch_size], batch_size, pad_id)
        for i in range(0, len(rows), batch_size)
    ]
    return float(np.concatenate(parts).mean())


def left_out_mean(losses: Losses) -> float:
    """Returns the mean loss of the left-out predictions."""
    return float(np.mean([row[LEFT_OUT] for row in losses.values()]))


def best(losses: Mapping[str, Losses]) -> str | None:
    """Returns the mapping whose left-out predictions have the lowest mean loss; None of none.

    Args:
      losses: of each mapping, on the same anchors.
    """
    return min(losses, key=lambda name: left_out_mean(losses[name]), default=None)
