"""The modules of a decoder layer; the mathematics is in free functions beside them."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.lora.delta import blocked_delta, low_rank_delta
from lorajax.models import kernels, quantized, rope
from lorajax.models.attention import Blocking, KeyValues, attend
from lorajax.models.cache import heads_first
from lorajax.models.config import ModelConfig


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float, has_offset: bool = False) -> jax.Array:
    """Divides by the root mean square over the last axis; statistics in float32.

    Its gradient is written out: it keeps x and one number a token, and its sum is a product, as
    the sum of a product takes XLA's CPU backend six times as long (512 x 896: 0.97 ms, 0.17 ms).

    Source: Zhang & Sennrich 2019; the cast order (normalise, round, scale) is that of the
    Llama reference, which matters in bfloat16. With an offset the factor is 1 + scale and the
    order is normalise, scale, round, as in the Gemma reference.
    """
    chex.assert_shape(scale, x.shape[-1:])
    return _norm_forward(x, scale, epsilon, has_offset)[0]


def _norm_forward(
    x: jax.Array, scale: jax.Array, epsilon: float, has_offset: bool
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """Returns the normalised x and what the backward pass needs."""
    x32 = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + epsilon)
    normal = x32 * inverse
    if has_offset:
        y = (normal * (1 + scale.astype(jnp.float32))).astype(x.dtype)
    else:
        y = normal.astype(x.dtype) * scale.astype(x.dtype)
    return y, (x, scale, inverse)


def _norm_backward(
    epsilon: float,
    has_offset: bool,
    residuals: tuple[jax.Array, jax.Array, jax.Array],
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns the cotangents of x and of the scale, both summed in float32."""
    x, scale, inverse = residuals
    normal, dy = x.astype(jnp.float32) * inverse, dy.astype(jnp.float32)
    dnormal = dy * (scale.astype(jnp.float32) + (1 if has_offset else 0))
    along = jnp.einsum('...d,...d->...', dnormal, normal, precision='highest')[..., None]
    dx = inverse * (dnormal - normal * (along / x.shape[-1]))
    dscale = (dy * normal).reshape(-1, x.shape[-1]).sum(axis=0)
    return dx.astype(x.dtype), dscale.astype(scale.dtype)


rms_norm.defvjp(_norm_forward, _norm_backward)


def matmul_precision(dtype: jnp.dtype) -> jax.lax.Precision | None:
    """Returns the matmul precision for `dtype`: float32 must not become TF32 or bfloat16."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


# For kernels [out, in]: variance 1 / in.
FAN_IN_LAST = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)


class RMSNorm(nn.Module):
    """Holds the scale of `rms_norm`."""

    epsilon: float
    param_dtype: jnp.dtype
    has_offset: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns x, normalised over its last axis."""
        init_fn = nn.initializers.zeros if self.has_offset else nn.initializers.ones
        scale = self.param('scale', init_fn, (x.shape[-1],), self.param_dtype)
        return rms_norm(x, scale, self.epsilon, self.has_offset)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def gated(x: jax.Array, up: jax.Array, activation: str) -> jax.Array:
    """Returns act(x) * up, where act is `silu` or `gelu_tanh` (GELU, approximated by tanh).

    The backward pass keeps the two operands alone and computes the activation again, which costs
    less than to store it and its slope.
    """
    return _activate(x, activation) * up


def _activate(x: jax.Array, activation: str) -> jax.Array:
    """Returns the activation of x."""
    return nn.silu(x) if activation == 'silu' else nn.gelu(x, approximate=True)


def _gated_forward(
    x: jax.Array, up: jax.Array, activation: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return gated(x, up, activation), (x, up)


def _gated_backward(
    activation: str, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, up = residuals
    _, backward = jax.vjp(lambda x, up: _activate(x, activation) * up, x, up)
    return backward(dy)


gated.defvjp(_gated_forward, _gated_backward)


class Projection(nn.Module):
    """y = W x (+ bias) (+ the adapter's delta, if the `lora` collection has an entry here).

    The kernel W is [out, in], the order of the files that it is loaded from.
    """

    features: int
    use_bias: bool
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, adapter_index: jax.Array | None = None) -> jax.Array:
        """Maps [..., in] to [..., features].

        Args:
          x: the input.
          adapter_index: int32[B, blocks], which of several adapters each block of x [B, T, in]
            gets; the collection then holds adapters stacked on A.
        """
        shape = (self.features, x.shape[-1])
        # As quick as x @ W with W [in, out], forwards, backwards and for single tokens (XLA, CPU).
        if self.has_variable('params', quantized.SCALE):
            names = ('kernel', quantized.SCALE)
            entry: dict[str, jax.Array] = {n: self.get_variable('params', n) for n in names}
        else:
            entry = {'kernel': self.param('kernel', FAN_IN_LAST, shape, self.param_dtype)}
        y = quantized.product(x, entry, precision=matmul_precision(x.dtype))
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,), self.param_dtype)
            y += bias.astype(x.dtype)
        if self.has_variable('lora', 'a'):
            with jax.default_matmul_precision('highest' if x.dtype == jnp.float32 else 'default'):
                a: jax.Array = self.get_variable('lora', 'a')
                b: jax.Array = self.get_variable('lora', 'b')
                if adapter_index is None:
                    y += low_rank_delta(x, a, b)
                else:
                    y += blocked_delta(x, a, b, adapter_index)
        # Kept only where a caller makes 'intermediates' mutable; see `models.activations`.
        self.sow('intermediates', 'inputs', x)
        self.sow('intermediates', 'outputs', y)
        return y


def residual(length: int) -> str:
    """Returns how the residual stream of rows of some tokens lies, as `sharding` calls it."""
    return 'residual' if length > 1 else 'residual of one token'


class Block(nn.Module):
    """One decoder layer: attention and gated MLP, each behind a norm and a residual.

    The submodules of attention and MLP are declared flat, so that the parameter tree and the
    adapter tree share the paths `layers/<projection>/...`.
    """

    config: ModelConfig
    param_dtype: jnp.dtype
    return_kv: bool = False
    blocking: Blocking | None = None
    attention: str = kernels.XLA
    attention_mesh: Mesh | None = None
    mesh: Mesh | None = None

    def projection(self, name: str) -> Projection:
        """Makes the projection called `name`."""
        bias = self.config.qkv_bias and name in ('q_proj', 'k_proj', 'v_proj')
        features = self.config.projections[name][1]
        return Projection(features, bias, self.param_dtype, name=name)

    def norm(self, name: str) -> RMSNorm:
        """Makes the norm called `name`."""
        c = self.config
        return RMSNorm(c.norm_eps, self.param_dtype, c.norm_offset, name=name)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        cached: tuple[jax.Array, jax.Array] | None,
        angle: jax.Array,
        mask: jax.Array,
        cached_mask: jax.Array | None,
        adapter_index: jax.Array | None = None,
        kind: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        """Runs the layer.

        Args:
          x: [B, T, D], the residual stream.
          cached: keys and values [B, K, S, H] of earlier tokens, or None.
          angle: float32[B, T, H / 2], rotation of each new token.
          mask: bool[B, T, T], who sees whom among the new tokens; with `blocking` as
            `kernels.visibility` says.
          cached_mask: bool[B, T, S], who sees which earlier token.
          adapter_index: int32[B, blocks], which of several adapters each block of tokens gets.
          kind: int32[], which of the angles and masks is this layer's, where its model has
            layers with and without a sliding window; these have a leading axis of both then.

        Returns:
          [B, T, D], and with `return_kv` the new tokens' keys and values [B, T, K, H].
        """
        c = self.config
        b, t, _ = x.shape
        if kind is not None:
            angle, mask = angle[kind], mask[kind]
            cached_mask = None if cached_mask is None else cached_mask[kind]
        h = self.norm('input_norm')(x)

        def project(name: str, x: jax.Array) -> jax.Array:
            return self.projection(name)(x, adapter_index)

        q = project('q_proj', h).reshape(b, t, c.num_heads, c.head_dim)
        k = project('k_proj', h).reshape(b, t, c.num_kv_heads, c.head_dim)
        v = project('v_proj', h).reshape(b, t, c.num_kv_heads, c.head_dim)
        if c.qk_norm:
            q, k = self.norm('q_norm')(q), self.norm('k_norm')(k)
        q, k = rope.rotate(q, angle), rope.rotate(k, angle)
        with jax.default_matmul_precision('highest' if x.dtype == jnp.float32 else 'default'):
            if self.blocking:
                out = kernels.attend_packed(
                    q, k, v, mask, self.blocking, c, self.attention, self.attention_mesh
                )
            else:
                kv_blocks: tuple[KeyValues, ...] = (KeyValues(k, v, mask),)
                if cached is not None and cached_mask is not None:
                    keys, values = map(heads_first, cached)
                    kv_blocks = (KeyValues(keys, values, cached_mask), *kv_blocks)
                q = q.reshape(b, t, c.num_kv_heads, -1, c.head_dim)
                out = attend(q, kv_blocks, c.score_scale, c.attention_softcap)
        out = project('o_proj', out.reshape(b, t, -1))  # from B T (N H)
        x += self.norm('attention_output_norm')(out) if c.output_norms else out
        x = sharding.constrain(x, self.mesh, residual(t))
        h = self.norm('post_attention_norm')(x)
        inner = gated(project('gate_proj', h), project('up_proj', h), c.mlp_activation)
        out = project('down_proj', inner)
        x += self.norm('mlp_output_norm')(out) if c.output_norms else out
        x = sharding.constrain(x, self.mesh, residual(t))
        return x, ((k, v) if self.return_kv else None)
