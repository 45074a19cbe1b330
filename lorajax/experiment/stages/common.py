"""What several stages share: models, adapters and examples of a run."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence

from absl import logging

from lorajax import io, mapping, sharding, toy
from lorajax.errors import InputError
from lorajax.experiment.config import Experiment
from lorajax.lora import LoraConfig, load_peft, pad_rank, save_peft
from lorajax.models import Model, load_model
from lorajax.models.hf import checkpoint
from lorajax.tasks.chat import ChatFormat, Encoded, load_chat_format, truncate
from lorajax.tasks.task import Example
from lorajax.types import Adapter

SIDES = ('source', 'target')
REPEATED = 'repeated'  # the held-outs' target adapters, trained once more

# Names the two base models of a mapping; written last, so it also marks the mapping as done.
PROVENANCE = 'bases.json'


def require_prepared(experiment: Experiment) -> None:
    """Refuses to go on without the files of the prepare stage."""
    if not experiment.files.config.exists():
        raise InputError(f'{experiment.files.config}: no such file; run the stage prepare first')


def load(experiment: Experiment, side: str) -> tuple[Model, ChatFormat]:
    """Loads a base model of the run and its chat format."""
    return load_named(experiment, experiment.model_directory(side))


def load_named(experiment: Experiment, name: str) -> tuple[Model, ChatFormat]:
    """Loads a base model by directory, hub id or 'toy-...', and its chat format."""
    name = str(toy.MODELS.get(name, name))
    logging.info('loading %s', name)
    mesh = sharding.make_mesh(experiment.mesh)
    directory = checkpoint.resolve(name)
    model = load_model(
        str(directory), experiment.param_dtype, experiment.dtype, mesh, experiment.remat
    )
    return model, load_chat_format(directory)


def read_examples(path: pathlib.Path) -> list[Example]:
    """Reads examples that `prepare` wrote."""
    return [Example.from_json(row) for row in io.read_jsonl(path)]


def encode(chat: ChatFormat, examples: Sequence[Example], max_len: int, task: str) -> list[Encoded]:
    """Returns training examples in tokens, without those whose answer does not fit."""
    return fit([chat.encode(example) for example in examples], max_len, task)


def fit(encoded: Sequence[Encoded], max_len: int, label: str) -> list[Encoded]:
    """Cuts examples to `max_len` tokens and leaves out those of which no answer is left.

    Raises:
      InputError: if none is left.
    """
    cut = [truncate(example, max_len) for example in encoded]
    kept = [example for example in cut if example is not None]
    if not kept:
        shortest = min(len(example.prompt) for example in encoded)
        raise InputError(
            f'--max_len={max_len}: no prompt of {label} leaves room for an answer, the shortest '
            f'has {shortest} tokens'
        )
    if len(kept) < len(encoded):
        dropped = len(encoded) - len(kept)
        logging.warning('%s: %d prompts of %d exceed --max_len', label, dropped, len(encoded))
    shortened = sum(
        example is not None and len(example.answer) < len(whole.answer)
        for example, whole in zip(cut, encoded, strict=True)
    )
    if shortened:
        logging.warning(
            '%s: %d answers of %d are cut at --max_len=%d, so their end is not learned',
            label, shortened, len(encoded), max_len,
        )  # fmt: skip
    return kept


def group_name(tasks: Sequence[str]) -> str:
    """Names a group of adapters trained together by its tasks.

    So a saved state is never restored into another group.
    """
    return hashlib.sha256(json.dumps(list(tasks)).encode()).hexdigest()[:12]


def trained_adapter(experiment: Experiment, side: str, task: str) -> Adapter:
    """Reads a trained adapter of the run; `side` may also be `REPEATED`."""
    directory = experiment.files.adapter(side, task)
    if not directory.exists():
        raise InputError(f'{directory}: no such adapter; run the stage train first')
    return load_peft(directory)[1]


def anchors(experiment: Experiment) -> tuple[mapping.Anchors, mapping.Anchors]:
    """Returns the anchors' adapters on both models."""
    source, target = (
        mapping.Anchors(
            {task: functools.partial(trained_adapter, experiment, side, task)
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
