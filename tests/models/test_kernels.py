"""Kernels of packed attention give what plain attention gives, forwards and backwards."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.errors import ArgumentError
from lorajax.models import kernels
from lorajax.models.attention import Blocking, KeyValues, attend, causal_mask, look_back
from lorajax.models.presets import GEMMA2_TINY, QWEN2_TINY

B, T, K, G, H = 2, 90, 1, 2, 128
BLOCKING = Blocking(15, 2)  # uneven on purpose
LENGTHS = ((30, 7, 21, 20), (1, 29, 30, 16))
CONFIG = dataclasses.replace(
    QWEN2_TINY, num_heads=K * G, num_kv_heads=K, embed_dim=K * G * H, head_dim=H
)


def arrays():
    """Queries, keys, values, segment ids with filling behind them, and a cotangent."""
    rng = np.random.default_rng(0)
    q, k, v, cotangent = (
        rng.standard_normal((B, T, heads, H)).astype(np.float32) for heads in (K * G, K, K, K * G)
    )
    ids = np.zeros((B, T), np.int32)
    for row, lengths in enumerate(LENGTHS):
        numbers = np.repeat(np.arange(1, len(lengths) + 1), lengths)
        ids[row, : len(numbers)] = numbers
    return q, k, v, ids, cotangent * (ids > 0)[..., None, None]


def whole(q, k, v, ids):
    """Plain attention over whole rows."""
    out = attend(q.reshape(B, T, K, G, H), (KeyValues(k, v, causal_mask(ids)),))
    return out.reshape(q.shape)


def packed(q, k, v, ids):
    seen = kernels.visibility(kernels.XLA, ids, BLOCKING, None)
    return kernels.attend_packed(q, k, v, seen, BLOCKING, CONFIG, kernels.XLA)


def fused(q, k, v, ids):
    """The call to cuDNN, by XLA: an odd block and an odd number of keys."""
    mask = kernels.visibility(kernels.CUDNN, ids, BLOCKING, None)
    out = kernels.attend_fused(
        q.reshape(-1, BLOCKING.size, K * G, H), look_back(k, BLOCKING), look_back(v, BLOCKING),
        mask, H**-0.5, 'xla',
    )  # fmt: skip
    return out.reshape(q.shape)


def splash(q, k, v, ids):
    """The TPU's kernel, interpreted."""
    ids = kernels.visibility(kernels.SPLASH, ids, BLOCKING, None)
    return kernels._attend_splash(
        q, k, v, ids, reach=kernels._reach(BLOCKING, None), scale=H**-0.5, softcap=None,
        interpret=True,
    )  # fmt: skip


@pytest.mark.parametrize('run', [packed, fused, splash])
def test_outputs_and_gradients_are_those_of_plain_attention(run):
    q, k, v, ids, cotangent = arrays()
    is_real = (ids > 0)[..., None, None]

    def both(attention):
        out, pullback = jax.vjp(lambda *qkv: jnp.where(is_real, attention(*qkv, ids), 0), q, k, v)
        return out, *pullback(jnp.asarray(cotangent))

    for found, expected in zip(jax.jit(both, static_argnums=0)(run), both(whole), strict=True):
        assert np.isfinite(found).all()
        # float32; sums over 30 keys and 128 channels in another order.
        assert np.abs(found - expected).max() <= 5e-6 * np.abs(expected).max()


def test_a_sliding_window_bounds_the_reach():
    assert kernels._reach(Blocking(16, 3), None) == 48
    assert kernels._reach(Blocking(13, 0), None) == 12  # every block is one example
    assert kernels._reach(Blocking(16, 3), 8) == 7


def device(platform, version='', capability=None, kind=''):
    client = types.SimpleNamespace(platform_version=version)
    made = types.SimpleNamespace(platform=platform, client=client, device_kind=kind)
    if capability:
        made.compute_capability = capability
    return made


CPU, TPU = device('cpu'), device('tpu')
T4, A100, H100 = (device('gpu', 'PJRT cuda 12', c) for c in ('7.5', '8.0', '9.0'))
MI300 = device('gpu', 'PJRT rocm 6', kind='AMD Instinct MI300X')
ABSENT_H100 = device('gpu', 'PJRT C API', '9.0', 'NVIDIA H100 80GB HBM3')
WIDE = dataclasses.replace(CONFIG, head_dim=192)


@pytest.mark.parametrize(
    ('where', 'config', 'dtype', 'expected'),
    [
        (CPU, CONFIG, 'bfloat16', 'xla'),
        (A100, CONFIG, 'bfloat16', 'cudnn'),
        (A100, CONFIG, 'float32', 'xla'),
        (A100, WIDE, 'bfloat16', 'xla'),
        (H100, WIDE, 'bfloat16', 'cudnn'),
        (H100, GEMMA2_TINY, 'bfloat16', 'xla'),  # bounds its scores
        (T4, CONFIG, 'float16', 'xla'),
        (MI300, CONFIG, 'bfloat16', 'xla'),
        (ABSENT_H100, CONFIG, 'bfloat16', 'cudnn'),
        (ABSENT_H100, WIDE, 'bfloat16', 'xla'),  # which JAX allows where the GPU is
        (TPU, CONFIG, 'float32', 'splash'),
        (TPU, QWEN2_TINY, 'float32', 'xla'),  # narrow heads
        (TPU, dataclasses.replace(GEMMA2_TINY, head_dim=128), 'float32', 'xla'),  # two masks
    ],
)
def test_the_platform_chooses(where, config, dtype, expected):
    assert kernels.choose(where, config, jnp.dtype(dtype)) == expected
    assert kernels.choose(where, config, jnp.dtype(dtype), 'xla') == 'xla'


@pytest.mark.parametrize(
    ('wanted', 'where', 'problem'),
    [
        ('cudnn', CPU, 'needs an NVIDIA GPU, this is a cpu'),
        ('cudnn', A100, 'needs half precision, the dtype is float32'),
        ('splash', H100, 'needs a TPU, this is a gpu'),
    ],
)
def test_a_kernel_that_is_not_there_is_refused(wanted, where, problem):
    with pytest.raises(ArgumentError, match=problem):
        kernels.choose(where, CONFIG, jnp.dtype('float32'), wanted)
