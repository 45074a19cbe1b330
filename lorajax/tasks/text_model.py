"""A base model that reads and writes text: weights, tokenizer and chat template together."""

import dataclasses
from typing import Any

from lorajax import models
from lorajax.models.hf import hub
from lorajax.tasks.chat import load_chat_format


def load_model(path_or_id: str, **options: Any) -> models.Model:
    """Loads a model with its tokenizer and chat template; `lorajax.load_model`.

    Args:
      path_or_id: a directory in HF format, a hub id, or 'toy-source' or 'toy-target'.
      **options: of `lorajax.models.load_model`.

    Returns:
      The model, whose `generate` takes texts, too.

    Raises:
      InputError: naming the file, for a tokenizer or a model that cannot be used.
    """
    # Before the weights: it is quick to fail.
    text = load_chat_format(hub.resolve(str(path_or_id), options.get('revision')))
    return dataclasses.replace(models.load_model(path_or_id, **options), text=text)
