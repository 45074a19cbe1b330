"""`Model`: a base ready to run, with or without adapters."""

import dataclasses
import functools
import pathlib
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.errors import ArgumentError, InputError
from lorajax.lora import PeftAdapter
from lorajax.models import decoding
from lorajax.models.config import ModelConfig
from lorajax.models.inputs import check_adapter, check_mask, check_tokens
from lorajax.models.sampling import Sampler
from lorajax.models.stacked import forward, is_stacked
from lorajax.models.transformer import Transformer, unembed
from lorajax.types import Adapter, Array, Params


class TextFormat(Protocol):
    """How a model reads and writes text; `tasks.chat.ChatFormat` is one."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""

    @property
    def pad_id(self) -> int:
        """Fills batches; never seen by attention."""

    def encode_prompt(self, prompt: str) -> np.ndarray:
        """Returns int32[P] tokens of a user's message, ready to be continued."""

    def decode(self, ids: np.ndarray) -> str:
        """Returns the text of int32[M] new tokens, up to the first stop id."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A decoder with its weights.

    Attributes:
      config: shapes and constants.
      params: base weights; no method changes them.
      module: the Linen module that the jitted functions close over.
      mesh: where the weights live.
      directory: where they came from; None for random weights.
      text: how it reads and writes text; None where `load_model` of this package made it, which
        knows tokens only. `lorajax.load_model` gives one.
    """

    config: ModelConfig
    params: Params
    module: Transformer
    mesh: Mesh
    directory: pathlib.Path | None = None
    text: TextFormat | None = None

    def __repr__(self) -> str:
        c, dtype = self.config, jnp.dtype(self.module.dtype).name
        return (
            f'Model({c.family}, {c.num_params / 1e6:.1f} M parameters, {c.num_layers} layers, '
            f'{dtype}, from {self.directory or "random weights"})'
        )

    def logits(
        self,
        tokens: Array,
        attention_mask: Array | None = None,
        adapter: Adapter | PeftAdapter | None = None,
    ) -> jax.Array:
        """Returns the logits of every position.

        Args:
          tokens: int32[B, T].
          attention_mask: int32[B, T], 0 for padding on either side; all ones if None. Larger
            numbers mark packed sequences (segment ids).
          adapter: one adapter (-> [B, T, V]), or adapters stacked on A (-> [A, B, T, V]).

        Returns:
          float32[B, T, V] or float32[A, B, T, V].
        """
        adapter = check_adapter(self.config, adapter)
        tokens, segment_ids = self._rows(tokens, attention_mask, adapter)
        return _logits(self.module, self.params, adapter, tokens, segment_ids)

    def generate(
        self,
        tokens: Any,
        attention_mask: Array | None = None,
        adapter: Adapter | PeftAdapter | None = None,
        max_new_tokens: int = 64,
        eos_ids: tuple[int, ...] = (),
        pad_id: int = 0,
        sampler: Sampler | None = None,
        key: jax.Array | None = None,
    ) -> Any:
        """Continues prompts: tokens that are padded on the left, or texts.

        Args:
          tokens: int32[B, T]; or a user's message, or a list of them, which go through the
            model's chat template (see `text`).
          attention_mask: int32[B, T], 0 for padding; all ones if None.
          adapter: one adapter, or adapters stacked on A that all see the same prompts.
          max_new_tokens: width of the output, tokens.
          eos_ids: stop ids; a row ends with the first that it produces. Of texts the chat
            template's own if none.
          pad_id: fills a row after its stop id.
          sampler: greedy if None; see `sampling.Sampling`.
          key: PRNG key for the sampler.

        Returns:
          int32[B, max_new_tokens], or int32[A, B, max_new_tokens]; for a text the answer, for a
          list of texts a list of answers, with stacked adapters a list of these for each.

        Raises:
          InputError: if a row is padded on the right, or for texts where `text` is None.
          ArgumentError: for a negative `max_new_tokens`.
        """
        is_one = isinstance(tokens, str)
        if is_one or (isinstance(tokens, list | tuple) and tokens and isinstance(tokens[0], str)):
            text = self._text()
            prompts = [tokens] if is_one else tokens
            rows, mask = _pad_left([text.encode_prompt(prompt) for prompt in prompts])
            output = self.generate(
                rows, mask, adapter, max_new_tokens, eos_ids or text.stop_ids, text.pad_id,
                sampler, key,
            )  # fmt: skip
            found = np.asarray(output)
            return _decoded(text, found[..., 0, :] if is_one else found)
        adapter = check_adapter(self.config, adapter)
        tokens, segment_ids = self._rows(tokens, attention_mask, adapter)
        # as integers: a difference of booleans or of unsigned numbers is never below 0
        if attention_mask is not None and (np.diff(np.asarray(segment_ids), axis=-1) < 0).any():
            raise InputError('attention_mask: a 1 is followed by a 0, expected left padding')
        if max_new_tokens < 0:
            raise ArgumentError('max_new_tokens', max_new_tokens, 'expected at least 0')
        return decoding.generate(
            self.module, self.params, adapter, tokens, segment_ids,
            max_new_tokens=max_new_tokens, eos_ids=tuple(eos_ids), pad_id=pad_id,
            sampler=sampler, key=key,
        )  # fmt: skip

    def _text(self) -> TextFormat:
        """Returns `text`; refuses a model that knows tokens only."""
        if self.text is None:
            raise InputError(
                'this model knows tokens only, expected one of lorajax.load_model for texts'
            )
        return self.text

    def _rows(
        self, tokens: Array, attention_mask: Array | None, adapter: Adapter | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns tokens and segment ids as int32, repeated for stacked adapters."""
        tokens = jnp.asarray(check_tokens(self.config.vocab_size, tokens), jnp.int32)
        if attention_mask is not None:
            check_mask(tokens.shape, attention_mask)
        mask = jnp.ones_like(tokens) if attention_mask is None else attention_mask
        segment_ids = jnp.asarray(mask, jnp.int32)
        if is_stacked(adapter) and tokens.ndim == 2:
            count = jax.tree.leaves(adapter)[0].shape[0]
            tokens = jnp.broadcast_to(tokens, (count, *tokens.shape))
            segment_ids = jnp.broadcast_to(segment_ids, (count, *segment_ids.shape))
        return tokens, segment_ids


def _decoded(text: TextFormat, ids: np.ndarray) -> Any:
    """Returns the texts of int32[..., M] tokens, in lists as the leading axes are."""
    return text.decode(ids) if ids.ndim == 1 else [_decoded(text, row) for row in ids]


def _pad_left(prompts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns int32[B, T] tokens and mask of prompts of different lengths."""
    length = max(map(len, prompts))
    tokens, mask = np.zeros((2, len(prompts), length), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = prompt
        mask[row, length - len(prompt) :] = 1
    return tokens, mask


@functools.partial(jax.jit, static_argnames=('module',))
def _logits(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
) -> jax.Array:
    """Unembeds every position."""
    hidden, _ = forward(module, params, adapter, tokens, segment_ids)
    logits = unembed(params, hidden, module.config.logit_softcap)
    return sharding.constrain(logits, module.mesh, 'logits')
