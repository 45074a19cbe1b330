"""Maps that multiply a source update from both sides, fitted by alternating ridge.

For one target tensor and K source tensors of the same projection,

  Y = sum_k N_k X_k M_k^T,   N_k [M, I], M_k [N, J],

minimises sum_t |Y_t - sum_k N_k X_tk M_k^T|^2 + mu_N |N|^2 + mu_M |M|^2. For fixed M it is a ridge
regression for all N_k together, and the other way round. Unlike weights of anchors the maps
leave the anchors' span: each acts on every query of the source.

Updates are given by their factors in orthonormal bases of the anchors (`subspace.Basis`). Bases of
all their directions lose nothing: a ridge solution has no component outside the span of its
samples. Reduced ones lose what `bilinear_part` reports.

Axes: A anchors, K source tensors, R and Q ranks, I, J and M, N input and output bases of the
source and target.

Source: alternating least squares for bilinear models goes back to Wold 1966.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from lorajax.mapping.compiling import quick_jit
from lorajax.mapping.gram import einsum
from lorajax.mapping.lapack import solve_positive
from lorajax.types import Array


class Samples(NamedTuple):
    """Anchors of one target tensor and of the source tensors it looks at."""

    x_in: Array  # float32[A, K, I, Q], source a
    x_out: Array  # float32[A, K, Q, J], source b
    y_in: Array  # float32[A, M, R], target a
    y_out: Array  # float32[A, R, N], target b


class Maps(NamedTuple):
    """Both sides of a bilinear map."""

    inner: Array  # float32[K, M, I], N_k
    outer: Array  # float32[K, N, J], M_k


def solve_side(x: Array, c: Array, y: Array, d: Array, penalty: Array | float) -> jax.Array:
    """Solves for one side: min over N of sum_t |y_t d_t - sum_k N_k x_tk c_tk|^2 + mu |N|^2.

    Args:
      x: float32[A, K, I, Q], the factor that N multiplies.
      c: float32[A, K, Q, N], the other factor, already mapped.
      y: float32[A, M, R] and d: float32[A, R, N], factors of the target.
      penalty: mu, relative to the mean diagonal of the normal matrix.

    Returns:
      float32[K, M, I].
    """
    anchors, k, i, rank = x.shape
    chex.assert_shape(c, (anchors, k, rank, None))
    chex.assert_shape([y, d], [(anchors, None, y.shape[2]), (anchors, y.shape[2], c.shape[3])])
    outer = einsum('akqn,alsn->akqls', c, c)
    normal = einsum('akiq,akqls->akils', x, outer)
    normal = einsum('akils,aljs->kilj', normal, x).reshape(k * i, k * i)
    right = einsum('amr,arn,akqn,akiq->kim', y, d, c, x).reshape(k * i, -1)
    diagonal = jnp.trace(normal) / (k * i)
    shift = jnp.where(diagonal > 0, penalty * diagonal, 1.0)
    solution = solve_positive(normal + shift * jnp.eye(k * i), right)
    return solution.reshape(k, i, -1).transpose(0, 2, 1)


@functools.partial(jax.jit, static_argnames='sweeps')
def fit_maps(
    key: jax.Array, samples: Samples, keep: Array, penalty: Array | float, sweeps: int
) -> Maps:
    """Fits a bilinear map by alternating ridge from a random start.

    Args:
      key: for the first N.
      samples: the anchors.
      keep: float32[A], 1 for the anchors to fit on, 0 for those left out.
      penalty: relative to the mean diagonal of each normal matrix.
      sweeps: how often both sides are solved, > 0.
    """
    x_in, y_in = (factor * keep.reshape(-1, *[1] * (factor.ndim - 1)) for factor in samples[::2])
    x_out, y_out = samples.x_out, samples.y_out
    k, i = x_in.shape[1:3]
    inner = jax.random.normal(key, (k, y_in.shape[1], i)) / jnp.sqrt(k * i)
    inner = inner * jnp.any(samples.y_in != 0, axis=(0, 2))[:, None]  # unused directions

    def sweep(inner: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        mapped = einsum('kmi,akiq->akqm', inner, x_in)
        outer = solve_side(
            x_out.swapaxes(2, 3), mapped, y_out.swapaxes(1, 2), y_in.swapaxes(1, 2), penalty
        )
        mapped = einsum('knj,akqj->akqn', outer, x_out)
        return solve_side(x_in, mapped, y_in, y_out, penalty), outer

    inner, outers = jax.lax.scan(sweep, inner, length=sweeps)
    return Maps(inner, outers[-1])


def apply_maps(maps: Maps, x_in: Array, x_out: Array) -> jax.Array:
    """Returns sum_k N_k a_k b_k M_k^T as float32[M, N].

    Args:
      maps: the map.
      x_in, x_out: float32[K, I, Q] and float32[K, Q, J], factors of one adapter.
    """
    inner = einsum('kmi,kiq->mkq', maps.inner, x_in)
    outer = einsum('kqj,knj->kqn', x_out, maps.outer)
    return einsum('mkq,kqn->mn', inner, outer)


@quick_jit(static_argnames=('sweeps', 'starts'))
def fit_folds(
    key: jax.Array,
    samples: Samples,
    keep: Array,
    penalty: Array | float,
    sweeps: int,
    starts: int,
) -> Maps:
    """Fits maps for several choices of anchors, each from several random starts.

    Predictions of the starts are averaged: what they agree on is what the anchors determine.

    Args:
      key: for the starts; equal for all choices.
      samples: the anchors.
      keep: float32[F, A], one row of ones and zeros per choice.
      penalty, sweeps: see `fit_maps`.
      starts: S.

    Returns:
      Maps with leaves [F, S, ...].
    """

    def one(keep: Array, key: jax.Array) -> Maps:
        return fit_maps(key, samples, keep, penalty, sweeps)

    over_starts = jax.vmap(one, (None, 0))
    return jax.vmap(over_starts, (0, None))(keep, jax.random.split(key, starts))


@jax.jit
def mean_prediction(maps: Maps, x_in: Array, x_out: Array) -> jax.Array:
    """Averages `apply_maps` over maps with leaves [S, ...], for one adapter."""
    return jax.vmap(apply_maps, (0, None, None))(maps, x_in, x_out).mean(0)


def source_window(layer: int, target_layers: int, source_layers: int, width: int) -> list[int]:
    """Returns the `width` source layers nearest to a target layer's relative depth.

    Where two are equally near, it is the shallower one. A single target layer is the last.
    """
    last = source_layers - 1
    depth = last * layer / (target_layers - 1) if target_layers > 1 else last
    first = min(max(math.ceil(depth - width / 2), 0), source_layers - width)
    return list(range(first, first + width))
