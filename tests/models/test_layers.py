"""Norm and projection against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.models import layers, presets
from lorajax.models.layers import Projection
from lorajax.models.transformer import Transformer

IN, OUT, R = 6, 10, 3


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_norm_divides_by_the_root_mean_square():
    x, scale = normal(2, 3, 8), normal(8, seed=1)
    exact = x.astype(np.float64)
    expected = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-3) * scale
    np.testing.assert_allclose(layers.rms_norm(x, scale, 1e-3), expected, rtol=1e-5)


def test_in_bfloat16_the_norm_rounds_before_it_scales():
    """As the reference implementation: float32 statistics, one rounding, then the scale."""
    x, scale = jnp.bfloat16(normal(4, 64)), jnp.bfloat16(normal(64, seed=1))
    wide = np.asarray(x, np.float32)
    rounded = jnp.bfloat16(wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6))
    out = layers.rms_norm(x, scale, 1e-6)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, rounded * scale)


def plain_norm(x, scale, has_offset):
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * (scale + has_offset)


def plain_gated(x, up, activation):
    act = x / (1 + jnp.exp(-x)) if activation == 'silu' else jax.nn.gelu(x, approximate=True)
    return act * up


@pytest.mark.parametrize(
    ('function', 'plain', 'option'),
    [
        (lambda x, scale, option: layers.rms_norm(x, scale, 1e-3, option), plain_norm, False),
        (lambda x, scale, option: layers.rms_norm(x, scale, 1e-3, option), plain_norm, True),
        (layers.gated, plain_gated, 'silu'),
        (layers.gated, plain_gated, 'gelu_tanh'),
    ],
)
def test_gradients_that_are_written_out_are_those_of_the_formula(function, plain, option):
    x, dy = normal(2, 3, 8), normal(2, 3, 8, seed=2)
    other = normal(8, seed=1) if plain is plain_norm else normal(2, 3, 8, seed=1)
    found, expected = (
        jax.jit(jax.grad(lambda x, y, f=f: (f(x, y, option) * dy).sum(), (0, 1)))(x, other)
        for f in (function, plain)
    )
    for actual, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)  # float32, near zero


@pytest.mark.parametrize('use_bias', [False, True])
def test_a_projection_is_a_product_with_its_kernel_in_the_order_of_the_files(use_bias):
    x, kernel, bias = normal(2, 4, IN), normal(OUT, IN, seed=1), normal(OUT, seed=2)
    params = {'kernel': kernel} | ({'bias': bias} if use_bias else {})
    module = Projection(OUT, use_bias, jnp.float32)
    expected = np.einsum('bti,oi->bto', *(v.astype(np.float64) for v in (x, kernel)))
    expected = expected + bias * use_bias
    y = module.apply({'params': params}, x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    a, b = normal(IN, R, seed=3), normal(R, OUT, seed=4)
    y = module.apply({'params': params, 'lora': {'a': a, 'b': b}}, x)
    np.testing.assert_allclose(y, expected + x @ a @ b, rtol=1e-4, atol=1e-5)


def test_fresh_kernels_have_the_variance_of_their_inputs_count():
    """256 inputs, 64 outputs: 1 / 256, not 1 / 64; 16384 draws give it within 5 %."""
    x = jnp.zeros((1, 1, 256))
    params = Projection(64, False, jnp.float32).init(jax.random.key(0), x)['params']
    assert params['kernel'].shape == (64, 256)
    assert float(jnp.var(params['kernel'])) == pytest.approx(1 / 256, rel=0.05)


def test_float32_products_are_never_rounded_to_less():
    assert layers.matmul_precision(jnp.dtype('float32')) == jax.lax.Precision.HIGHEST
    assert layers.matmul_precision(jnp.dtype('bfloat16')) is None


def test_only_queries_keys_and_values_of_qwen2_have_biases():
    for config in (presets.QWEN2_TINY, presets.LLAMA3_TINY):
        tokens = jnp.ones((1, 2), jnp.int32)
        tree = jax.eval_shape(Transformer(config).init, jax.random.key(0), tokens, tokens)
        with_bias = {name for name, leaf in tree['params']['layers'].items() if 'bias' in leaf}
        assert with_bias == ({'q_proj', 'k_proj', 'v_proj'} if config.qkv_bias else set())
