"""Adapters of a run, in PEFT format."""

import functools
import pathlib

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.experiment.config import Experiment
from lorajax.lora import LoraConfig, load_peft, pad_rank, save_peft
from lorajax.types import Adapter

SIDES = ('source', 'target')
REPEATED = 'repeated'  # the held-outs' target adapters, trained once more


def load_trained(experiment: Experiment, side: str, task: str) -> Adapter:
    """Reads a trained adapter of the run; `side` may also be `REPEATED`.

    Raises:
      InputError: if it is not there, or its files are damaged.
    """
    return _load(experiment.files.adapter(side, task), 'train')


def load_predicted(experiment: Experiment, method: str, task: str) -> Adapter:
    """Reads the target adapter that a method predicts for a held-out.

    Raises:
      InputError: if it is not there, or its files are damaged.
    """
    return _load(experiment.files.predicted(method, task), 'map')


def _load(directory: pathlib.Path, stage: str) -> Adapter:
    """Reads an adapter that a stage makes."""
    if not directory.exists():
        raise InputError(f'{directory}: no such adapter; run the stage {stage} first')
    return load_peft(directory)[1]


def load_anchors(experiment: Experiment) -> tuple[mapping.Anchors, mapping.Anchors]:
    """Returns the anchors' adapters on both models."""
    source, target = (
        mapping.Anchors(
            {task: functools.partial(load_trained, experiment, side, task)
             for task in experiment.anchors},
            side,
        )
        for side in SIDES
    )  # fmt: skip
    return source, target


def save_predicted(
    directory: pathlib.Path, adapter: Adapter, base_model: str, dtype: str | None = None
) -> None:
    """Writes a predicted adapter; its scale is in the factors, so alpha = rank."""
    rank = max(entry['a'].shape[-1] for entry in adapter['layers'].values())
    config = LoraConfig(
        rank=rank, alpha=rank, targets=tuple(adapter['layers']), base_model=base_model
    )
    save_peft(directory, config, pad_rank(adapter, rank), dtype=dtype)
