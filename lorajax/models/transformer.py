"""The decoder: embedding, scanned layers, final norm, unembedding.

The parameters of all layers are stacked on a leading L axis and the layers are scanned, so
compile time does not grow with depth and an adapter is one array per projection and factor.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.models import kernels, rope
from lorajax.models.attention import (
    Blocking,
    cached_mask,
    causal_mask,
    positions_of,
    soft_cap,
)
from lorajax.models.cache import Cache
from lorajax.models.config import ModelConfig
from lorajax.models.layers import FAN_IN_LAST, Block, RMSNorm, matmul_precision, residual

REMAT_POLICIES = {
    'none': None,  # keep every activation
    'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # keep matmul outputs
    'full': jax.checkpoint_policies.nothing_saveable,  # keep the residual stream alone
}

# Logical axes of every parameter, kernels in the order of the files; `lorajax.sharding` maps them
# to mesh axes.
PARAM_AXES: dict[str, tuple[str | None, ...]] = {
    'embed/embedding': ('vocab', 'embed'),
    'lm_head/kernel': ('vocab', 'embed'),
    'final_norm/scale': (None,),
    'layers/input_norm/scale': (None, None),
    'layers/post_attention_norm/scale': (None, None),
    'layers/attention_output_norm/scale': (None, None),
    'layers/mlp_output_norm/scale': (None, None),
    'layers/q_norm/scale': (None, None),
    'layers/k_norm/scale': (None, None),
    'layers/q_proj/kernel': (None, 'heads', 'embed'),
    'layers/k_proj/kernel': (None, 'kv_heads', 'embed'),
    'layers/v_proj/kernel': (None, 'kv_heads', 'embed'),
    'layers/o_proj/kernel': (None, 'embed', 'heads'),
    'layers/q_proj/bias': (None, 'heads'),
    'layers/k_proj/bias': (None, 'kv_heads'),
    'layers/v_proj/bias': (None, 'kv_heads'),
    'layers/gate_proj/kernel': (None, 'mlp', 'embed'),
    'layers/up_proj/kernel': (None, 'mlp', 'embed'),
    'layers/down_proj/kernel': (None, 'embed', 'mlp'),
}


class Transformer(nn.Module):
    """A decoder of one of the `families`.

    Attributes:
      config: shapes and constants.
      param_dtype: dtype in which parameters are stored.
      dtype: dtype of the computation; norms, softmax, RoPE and logits are float32 anyway.
      remat: what the backward pass keeps, a key of `REMAT_POLICIES`.
      attention: the kernel for packed rows, see `kernels`.
      attention_mesh: where they lie, for a kernel that XLA cannot divide.
      mesh: where all arrays lie; None for one device.
    """

    config: ModelConfig
    param_dtype: jnp.dtype = jnp.float32
    dtype: jnp.dtype = jnp.float32
    remat: str = 'none'
    attention: str = kernels.XLA
    attention_mesh: Mesh | None = None
    mesh: Mesh | None = None

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        segment_ids: jax.Array,
        positions: jax.Array | None = None,
        cache: Cache | None = None,
        return_kv: bool = False,
        blocking: Blocking | None = None,
        adapter_index: jax.Array | None = None,
        slot: jax.Array | int = 0,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        """Returns the last hidden states, ready for `unembed`.

        Args:
          tokens: int32[B, T].
          segment_ids: int32[B, T], 0 for padding (an attention mask is the plain case).
          positions: int32[B, T]; counted within each segment if None.
          cache: earlier tokens that the new ones may attend to; read only.
          return_kv: whether to return the keys and values of the new tokens.
          blocking: how rows of several sequences are cut for attention; without a cache.
          adapter_index: int32[B, T / c], which of the adapters that are stacked on A, behind L,
            each block of c tokens gets; None for one adapter or none.
          slot: int32[], the cache's slot that is written next; sliding windows ask how old a
            slot is.

        Returns:
          [B, T, D] after the final norm, and keys and values [L, B, T, K, H] or None.
        """
        chex.assert_rank(tokens, 2)
        chex.assert_equal_shape((tokens, segment_ids))
        c = self.config
        shape = (c.vocab_size, c.embed_dim)
        embedding = _Matrix(
            'embedding', shape, self.param_dtype, nn.initializers.normal(0.02), name='embed'
        )()
        length = tokens.shape[-1]
        x = embed(c, embedding, tokens, self.dtype)  # B T D
        x = sharding.constrain(x, self.mesh, residual(length))
        if not c.tie_embeddings:
            _Matrix('kernel', shape, self.param_dtype, FAN_IN_LAST, name='lm_head')()
        if positions is None:
            positions = positions_of(segment_ids)
        reach = tokens.shape[-1] + (0 if cache is None else cache.valid.shape[-1])
        views: list[_View] = [
            _view(self, segment_ids, positions, cache, blocking, slot, is_local)
            for is_local in _kinds(c, reach)
        ]
        kind = None
        if len(views) > 1:
            view = jax.tree.map(lambda *both: jnp.stack(both), *views)
            kind = jnp.array([c.has_window(layer) for layer in range(c.num_layers)], jnp.int32)
        else:
            (view,) = views
        block = Block
        if self.remat != 'none':
            block = nn.remat(Block, policy=REMAT_POLICIES[self.remat], prevent_cse=False)
        layers = nn.scan(
            block,
            variable_axes={'params': 0, 'lora': 0, 'intermediates': 0},
            split_rngs={'params': True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast, 0),
            length=c.num_layers,
        )(
            c,
            self.param_dtype,
            return_kv,
            blocking,
            self.attention,
            self.attention_mesh,
            self.mesh,
            name='layers',
        )
        x, kv = layers(
            x,
            None if cache is None else (cache.k, cache.v),
            view.angle,
            view.mask,
            view.cached_mask,
            adapter_index,
            kind,
        )
        x = RMSNorm(c.norm_eps, self.param_dtype, c.norm_offset, name='final_norm')(x)
        return sharding.constrain(x, self.mesh, residual(length)), kv


class _View(NamedTuple):
    """What a layer is told of the tokens; see `Block`."""

    angle: jax.Array
    mask: jax.Array
    cached_mask: jax.Array | None


def _kinds(config: ModelConfig, reach: int) -> tuple[bool, ...]:
    """Returns the kinds of layers that differ over `reach` tokens: without, with a window."""
    flags = {config.has_window(layer) for layer in range(len(config.window_pattern) or 1)}
    is_seen = config.local_rope_theta is not None or (config.sliding_window or reach) < reach
    return tuple(sorted(flags)) if is_seen else (False,)


def _view(
    module: Transformer,
    segment_ids: jax.Array,
    positions: jax.Array,
    cache: Cache | None,
    blocking: Blocking | None,
    slot: jax.Array | int,
    is_local: bool,
) -> _View:
    """Returns what the layers of a kind are told, those with a window if `is_local`."""
    config = module.config
    window = config.sliding_window if is_local else None
    return _View(
        rope.angles(config, positions, is_local),
        kernels.visibility(module.attention, segment_ids, blocking, window)
        if blocking
        else causal_mask(segment_ids, window),
        None if cache is None else cached_mask(cache.valid, segment_ids, slot, window),
    )


def embed(
    config: ModelConfig, embedding: jax.Array, tokens: jax.Array, dtype: jnp.dtype
) -> jax.Array:
    """Returns [..., D], the rows of embedding [V, D] of some tokens, scaled where a model does.

    The scale is rounded to `dtype` first, as in the Gemma reference: 55.5 for the root of 3072
    in bfloat16.
    """
    x = embedding[tokens].astype(dtype)
    if not config.scale_embeddings:
        return x
    return x * jnp.asarray(config.embed_dim**0.5, dtype)


class _Matrix(nn.Module):
    """Holds one matrix, called `leaf`."""

    leaf: str
    shape: tuple[int, int]
    param_dtype: jnp.dtype
    init_fn: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param(self.leaf, self.init_fn, self.shape, self.param_dtype)


def unembedding(params: dict) -> jax.Array:
    """Returns the matrix [V, D] from hidden states to logits, that of the embedding where tied."""
    return params['lm_head']['kernel'] if 'lm_head' in params else params['embed']['embedding']


def logits_of(matrix: jax.Array, hidden: jax.Array) -> jax.Array:
    """Returns float32[..., V], the products of hidden states [..., D] with each row of [V, D]."""
    return jnp.einsum(
        '...d,vd->...v',
        hidden,
        matrix.astype(hidden.dtype),
        precision=matmul_precision(hidden.dtype),
        preferred_element_type=jnp.float32,
    )


def unembed(
    params: dict, hidden: jax.Array, softcap: float | None = None, mesh: Mesh | None = None
) -> jax.Array:
    """Returns float32 logits [..., V] of hidden states [..., D], bounded by `softcap`.

    A function of its own, so that callers unembed only the positions that they need: the
    answer's in training, the last one in decoding. With a mesh the hidden states are those of
    single tokens, [(A,) B, D].
    """
    matrix = unembedding(params)
    chex.assert_shape(matrix, (None, hidden.shape[-1]))
    logits = logits_of(matrix, hidden)
    if mesh is not None:
        logits = sharding.constrain(logits, mesh, 'logits of one token')
    return soft_cap(logits, softcap)
