"""`load_model` and `Model`: a base model ready to run, with or without adapters."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh

from lorajax import sharding
from lorajax.errors import ArgumentError, InputError
from lorajax.lora import PeftAdapter
from lorajax.models import config as config_lib
from lorajax.models import decoding, kernels, quantized
from lorajax.models.config import ModelConfig
from lorajax.models.hf import checkpoint, hub
from lorajax.models.hf import names as hf_names
from lorajax.models.sampling import Sampler
from lorajax.models.stacked import forward, is_stacked
from lorajax.models.transformer import PARAM_AXES, Transformer, unembed
from lorajax.types import Adapter, Array, Params

DTYPES = ('float32', 'bfloat16', 'float16')  # of weights and of the computation


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
        adapter = self._check_adapter(adapter)
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
        """
        if isinstance(tokens, str):
            answers = self.generate(
                [tokens], None, adapter, max_new_tokens, eos_ids, pad_id, sampler, key
            )
            return [rows[0] for rows in answers] if isinstance(answers[0], list) else answers[0]
        if isinstance(tokens, list | tuple) and tokens and isinstance(tokens[0], str):
            text = self._text()
            rows, mask = _pad_left([text.encode_prompt(prompt) for prompt in tokens])
            output = self.generate(
                rows, mask, adapter, max_new_tokens, eos_ids or text.stop_ids, text.pad_id,
                sampler, key,
            )  # fmt: skip
            found = np.asarray(output)
            if found.ndim == 2:
                return [text.decode(row) for row in found]
            return [[text.decode(row) for row in rows] for rows in found]
        adapter = self._check_adapter(adapter)
        if attention_mask is not None and (np.diff(np.asarray(attention_mask), axis=-1) < 0).any():
            raise InputError('attention_mask: a 1 is followed by a 0, expected left padding')
        tokens, segment_ids = self._rows(tokens, attention_mask, adapter)
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

    def _check_adapter(self, adapter: Adapter | PeftAdapter | None) -> Adapter | None:
        """Refuses an adapter that does not fit; returns None for an empty one."""
        if isinstance(adapter, PeftAdapter):
            adapter = adapter.tree
        if adapter is not None and not isinstance(adapter, dict):
            raise InputError(
                f'adapter: is a {type(adapter).__name__}, expected a tree of factors or what '
                'lorajax.lora.load_peft returns'
            )
        layers = (adapter or {}).get('layers') or {}
        for name, entry in layers.items():
            if name not in self.config.projections:
                raise InputError(
                    f'adapter: unknown projection {name!r}, expected some of '
                    f'{", ".join(self.config.projections)}'
                )
            fan_in, fan_out = self.config.projections[name]
            a, b = np.shape(entry['a'])[-3:], np.shape(entry['b'])[-3:]
            depth = self.config.num_layers
            if a[:2] != (depth, fan_in) or b != (depth, a[-1], fan_out):
                raise InputError(
                    f'adapter: {name} has factors {a} and {b}, expected '
                    f'({depth}, {fan_in}, R) and ({depth}, R, {fan_out})'
                )
        return adapter if layers else None

    def _check_tokens(self, tokens: Any) -> Array:
        """Refuses what are no rows of tokens of this model; arrays of JAX are not looked into.

        An id outside of the vocabulary would be taken for the nearest within.
        """
        if isinstance(tokens, jax.Array):
            return tokens
        try:
            found = np.asarray(tokens)
        except ValueError:
            raise InputError('tokens: rows differ in length, expected them padded') from None
        if found.ndim not in (2, 3) or found.dtype.kind not in 'iu':
            raise InputError(f'tokens: are {found.dtype}{list(found.shape)}, expected int32[B, T]')
        if found.size and not 0 <= found.min() <= found.max() < self.config.vocab_size:
            raise InputError(
                f'tokens: hold {found.min()} to {found.max()}, expected 0 to '
                f'{self.config.vocab_size - 1}'
            )
        return found

    def _rows(
        self, tokens: Array, attention_mask: Array | None, adapter: Adapter | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns tokens and segment ids as int32, repeated for stacked adapters."""
        tokens = jnp.asarray(self._check_tokens(tokens), jnp.int32)
        mask = jnp.ones_like(tokens) if attention_mask is None else attention_mask
        segment_ids = jnp.asarray(mask, jnp.int32)
        if is_stacked(adapter) and tokens.ndim == 2:
            count = jax.tree.leaves(adapter)[0].shape[0]
            tokens = jnp.broadcast_to(tokens, (count, *tokens.shape))
            segment_ids = jnp.broadcast_to(segment_ids, (count, *segment_ids.shape))
        return tokens, segment_ids


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


def param_shardings(
    mesh: Mesh | AbstractMesh, config: ModelConfig
) -> dict[str, jax.sharding.NamedSharding]:
    """Returns the sharding of each base parameter by path.

    Raises:
      ArgumentError: if the mesh does not divide the model.
    """
    return sharding.shardings_for(mesh, param_axes(mesh, config), hf_names.shapes(config))


def param_axes(mesh: Mesh | AbstractMesh, config: ModelConfig) -> dict[str, tuple[str | None, ...]]:
    """Returns the logical axes of each base parameter by path.

    Key and value heads are replicated where the mesh's tensor axis does not divide their number:
    half a head on a device would make every attention a sum over devices.
    """
    if config.num_kv_heads % mesh.shape['tensor'] == 0:
        return PARAM_AXES
    return {
        path: tuple(None if axis == 'kv_heads' else axis for axis in axes)
        for path, axes in PARAM_AXES.items()
    }


def adapter_shardings(
    mesh: Mesh | AbstractMesh, config: ModelConfig, targets: Sequence[str], count: int = 0
) -> Adapter:
    """Returns the sharding of every leaf of stacked adapters, the rank replicated.

    `a` [A, L, in, R] follows the input axis of its base kernel, `b` [A, L, R, out] the output
    axis.

    Args:
      mesh: where the base lies.
      config: of the base.
      targets: adapted projections.
      count: A; the adapters are spread over the mesh's axis of that name if it divides them.
    """
    layers, axes = {}, param_axes(mesh, config)
    spread = None if count % mesh.shape['adapters'] else 'adapters'
    for name in targets:
        _, fan_out, fan_in = axes[f'layers/{name}/kernel']
        layers[name] = {
            'a': sharding.sharding(mesh, spread, None, fan_in, None),
            'b': sharding.sharding(mesh, spread, None, None, fan_out),
        }
    return {'layers': layers}


def load_model(
    path_or_id: str,
    param_dtype: Any = 'float32',
    dtype: Any = 'float32',
    mesh: Mesh | None = None,
    remat: str = 'none',
    revision: str | None = None,
    attention: str = kernels.AUTO,
    quantize: str = quantized.NONE,
) -> Model:
    """Loads a model in HF format.

    Args:
      path_or_id: a directory, a hub id, 'owner/name' or 'owner/name@revision', or a shipped
        model's name, such as 'toy-target'.
      param_dtype: dtype in which weights are stored: 'float32' or 'bfloat16'.
      dtype: dtype of the computation.
      mesh: from `sharding.make_mesh`; all devices on the fsdp axis if None.
      remat: what the backward pass keeps: 'none', 'dots' or 'full' (see `transformer`).
      revision: of the hub id, if it names none.
      attention: the kernel of training, 'auto' or one that the devices have (see `kernels`).
      quantize: 'int8' or 'int4' for projections of so many bits (see `quantized`), or 'none'.

    Returns:
      The model, its weights sharded over the mesh.

    Raises:
      InputError: naming file and tensor, for anything that does not fit.
      ArgumentError: for a dtype that is none of `DTYPES`, a mesh that does not divide the model, or
        a kernel that cannot be had.
    """
    for argument, value in (('param_dtype', param_dtype), ('dtype', dtype)):
        if jnp.dtype(value).name not in DTYPES:
            raise ArgumentError(argument, value, f'expected one of {", ".join(DTYPES)}')
    directory = hub.resolve(str(path_or_id), revision)
    config = config_lib.read(directory)
    mesh = mesh or sharding.make_mesh((1, -1, 1))
    params = checkpoint.load_params(
        directory, config, jnp.dtype(param_dtype), param_shardings(mesh, config),
        functools.partial(_quantized, quantize) if quantize != quantized.NONE else None,
    )  # fmt: skip
    # The files decide, as they do in transformers.
    config = dataclasses.replace(config, tie_embeddings='lm_head' not in params)
    module = make_module(config, param_dtype, dtype, mesh, remat, attention)
    return Model(config, params, module, mesh, directory)


def make_module(
    config: ModelConfig,
    param_dtype: Any,
    dtype: Any,
    mesh: Mesh,
    remat: str = 'none',
    attention: str = kernels.AUTO,
) -> Transformer:
    """Returns the decoder for the devices of a mesh; arguments are those of `load_model`.

    Raises:
      ArgumentError: for a kernel that the devices do not have.
    """
    kernel = kernels.choose(mesh.devices.flat[0], config, jnp.dtype(dtype), attention)
    return Transformer(
        config, jnp.dtype(param_dtype), jnp.dtype(dtype), remat, kernel,
        mesh if kernel == kernels.SPLASH else None, mesh if mesh.size > 1 else None,
    )  # fmt: skip


def _quantized(kind: str, path: str, leaf: jax.Array) -> dict[str, jax.Array]:
    """Returns what takes the place of a leaf of the base, by path."""
    if not quantized.is_quantized(path):
        return {path: leaf}
    parent = path.removesuffix('kernel')
    return {parent + name: new for name, new in quantized.quantize_kernel(leaf, kind).items()}


def random_model(
    config: ModelConfig,
    key: jax.Array,
    param_dtype: Any = 'float32',
    dtype: Any = 'float32',
    mesh: Mesh | None = None,
) -> Model:
    """Returns a model with fresh weights: kernels scaled by fan-in, unit norms, no bias."""
    module = Transformer(config, jnp.dtype(param_dtype), jnp.dtype(dtype))
    tokens = jnp.zeros((1, 2), jnp.int32)
    params = jax.jit(module.init)(key, tokens, jnp.ones_like(tokens))['params']
    mesh = mesh or sharding.make_mesh((1, -1, 1))
    module = module.clone(mesh=mesh if mesh.size > 1 else None)
    return Model(config, params, module, mesh)
