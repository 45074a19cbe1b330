"""Rotary position embedding, with the frequency scaling of Llama 3.1 and later."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lorajax.models.config import ModelConfig


def frequencies(config: ModelConfig, is_local: bool = False) -> np.ndarray:
    """Returns float32[H / 2], the rotation in radians per token of each pair of channels.

    In the order of operations of the reference implementation, each rounded to float32: at
    position 10^4 a difference in the last bit of a frequency already turns by 6e-4 radians.
    The power is rounded once, from float64: numpy's own float32 power is a bit off in a fifth
    of the frequencies of the 3B models, where that of torch is in none or one of 64.

    With `is_local` of layers with a sliding window, which may have a base of their own and are
    not stretched then.

    Source: Su et al. 2021 (RoFormer), section 3.2.2; the scaling is `rope_type: llama3` of
    `config.json`: wavelengths beyond `original / low_freq_factor` tokens are stretched by
    `factor`, those below `original / high_freq_factor` kept, and those between interpolated.
    """
    f32 = np.float32
    exponent = np.arange(0, config.head_dim, 2, dtype=f32) / f32(config.head_dim)
    is_local = is_local and config.local_rope_theta is not None
    theta = config.local_rope_theta if is_local else config.rope_theta
    power = np.power(np.float64(theta), exponent.astype(np.float64))
    inverse = f32(1.0) / power.astype(f32)
    scaling = config.rope_scaling
    if is_local or scaling is None:
        return inverse if is_local else inverse / f32(config.rope_factor)
    original = scaling.original_max_position_embeddings
    wavelength = f32(2 * np.pi) / inverse
    low, high = f32(scaling.low_freq_factor), f32(scaling.high_freq_factor)
    smooth = (f32(original) / wavelength - low) / (high - low)
    between = (f32(1) - smooth) * inverse / f32(scaling.factor) + smooth * inverse
    scaled = np.where(wavelength > original / low, inverse / f32(scaling.factor), inverse)
    is_between = (wavelength >= original / high) & (wavelength <= original / low)
    return np.where(is_between, between, scaled).astype(f32)


def angles(config: ModelConfig, positions: jax.Array, is_local: bool = False) -> jax.Array:
    """Returns float32[B, T, H / 2] rotation angles for int32[B, T] positions."""
    return positions[..., None].astype(jnp.float32) * frequencies(config, is_local)


def rotate(x: jax.Array, angle: jax.Array) -> jax.Array:
    """Rotates the channel pairs (i, i + H / 2) of each head.

    Args:
      x: [B, T, heads, H], queries or keys.
      angle: float32[B, T, H / 2], from `angles`.

    Returns:
      [B, T, heads, H] in the dtype of `x`; the rotation itself is done in float32.
    """
    chex.assert_rank(x, 4)
    chex.assert_shape(angle, (*x.shape[:2], x.shape[-1] // 2))
    cos, sin = jnp.cos(angle)[:, :, None, :], jnp.sin(angle)[:, :, None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
