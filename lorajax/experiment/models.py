"""Base models by name: a directory in HF format, a hub id, or one of the toy world's."""

import functools
import pathlib

from absl import logging

from lorajax import io, sharding, toy
from lorajax.errors import InputError
from lorajax.experiment import provenance
from lorajax.experiment.config import Experiment
from lorajax.models import Model, ModelConfig, load_model
from lorajax.models import config as config_lib
from lorajax.models.hf import hub
from lorajax.tasks.chat import ChatFormat, load_chat_format


def resolve(name: str) -> pathlib.Path:
    """Returns the directory of a model, which is fetched if it is on the hub.

    Raises:
      InputError: if there is no such model.
    """
    return hub.resolve(str(toy.MODELS.get(name, name)))


def read_config(name: str) -> ModelConfig:
    """Returns the shapes of a model; nothing else of it is read."""
    return config_lib.read(resolve(name))


def load_chat(name: str, experiment: Experiment, side: str = 'source') -> ChatFormat:
    """Loads a model's tokenizer, template and end token.

    Args:
      name: of the model.
      experiment: may name other end tokens.
      side: which of two models it is; 'source' if it is the only one.

    Raises:
      InputError: naming the file, if something of the tokenizer cannot be used.
      ArgumentError: if it lacks the end token.
    """
    ends = experiment.end_tokens or ('',)
    return load_chat_format(resolve(name), ends[-1] if side == 'target' else ends[0])


def load(name: str, experiment: Experiment, side: str = 'source') -> tuple[Model, ChatFormat]:
    """Loads a model and its chat format, in the precision and on the mesh of an experiment.

    Args:
      name: of the model.
      experiment: says how.
      side: as in `load_chat`.

    Raises:
      InputError: naming the file, if something of the model cannot be used.
    """
    directory = resolve(name)
    chat = load_chat(name, experiment, side)  # before the weights: it is quick to fail
    mesh = sharding.make_mesh(experiment.mesh)
    logging.info('loading %s', name)
    model = load_model(
        str(directory), experiment.param_dtype, experiment.dtype, mesh, experiment.remat,
        quantize=experiment.quantize,
        attention=experiment.attention,
    )  # fmt: skip
    return model, chat


def load_side(experiment: Experiment, side: str) -> tuple[Model, ChatFormat]:
    """Loads the 'source' or 'target' model of a run, which must be the one it was begun with.

    Raises:
      InputError: if its weights are others than config.json says; as `load`.
    """
    check_recorded(experiment, side)
    return load(experiment.model_directory(side), experiment, side)


def check_recorded(experiment: Experiment, side: str) -> None:
    """Refuses a model whose weights are others than config.json says.

    Raises:
      InputError: naming the model.
    """
    name = experiment.model_directory(side)
    recorded = io.read_json(experiment.files.config).get('model_hashes', {}).get(side)
    if recorded and weights_hash(resolve(name)) != recorded:
        raise InputError(
            f'{name}: its weights are not those that {experiment.files.config} was begun with; '
            'expected the same model, or another workdir'
        )


@functools.cache
def weights_hash(directory: pathlib.Path) -> str:
    """Returns a fingerprint of a model's weight files, taken once in a process."""
    return provenance.fingerprint(directory, '*.safetensors')
