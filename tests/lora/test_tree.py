"""Adapter trees: made, stacked, taken apart, widened."""

import jax
import numpy as np
import pytest

from lorajax import lora
from lorajax.errors import ArgumentError

PROJECTIONS = {'q_proj': (64, 48), 'down_proj': (256, 64)}


def fresh(seed=0, targets=tuple(PROJECTIONS)):
    return lora.init_adapter(jax.random.key(seed), PROJECTIONS, 3, 4, targets)


def random_adapter(seed=0, rank=4):
    rng = np.random.default_rng(seed)
    return {
        'layers': {
            name: {
                'a': rng.normal(size=(3, fan_in, rank)).astype(np.float32),
                'b': rng.normal(size=(3, rank, fan_out)).astype(np.float32),
            }
            for name, (fan_in, fan_out) in PROJECTIONS.items()
        }
    }


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_fresh_adapter_changes_nothing_and_is_drawn_as_by_peft():
    """kaiming_uniform with a = sqrt(5): uniform in +-1 / sqrt(fan_in), fan-in of one layer."""
    for name, entry in fresh()['layers'].items():
        fan_in, fan_out = PROJECTIONS[name]
        assert entry['a'].shape == (3, fan_in, 4) and entry['b'].shape == (3, 4, fan_out)
        assert entry['a'].dtype == entry['b'].dtype == np.float32
        assert not entry['b'].any()
        a, bound = np.asarray(entry['a']), fan_in**-0.5
        assert np.abs(a).max() <= bound
        # The deviation of a uniform number is bound / sqrt(3); 768 or more of them estimate it to
        # 1.6 % (sqrt((kurtosis - 1) / 4n), kurtosis 1.8).
        assert abs(a.std() / (bound / 3**0.5) - 1) < 0.08
        assert len({layer.tobytes() for layer in a}) == 3  # each layer draws its own


def test_adapters_of_one_key_share_their_factors_whatever_they_adapt():
    assert_equal(fresh(), fresh())
    assert_equal(
        fresh(targets=['down_proj'])['layers']['down_proj'], fresh()['layers']['down_proj']
    )
    assert not np.array_equal(fresh(1)['layers']['q_proj']['a'], fresh()['layers']['q_proj']['a'])


def test_stacking_and_taking_apart_are_inverse():
    for count in (1, 3):
        adapters = [random_adapter(seed) for seed in range(count)]
        stacked = lora.stack(adapters)
        assert stacked['layers']['q_proj']['a'].shape == (count, 3, 64, 4)
        for before, after in zip(adapters, lora.unstack(stacked), strict=True):
            assert_equal(before, after)


def test_adapters_of_other_shapes_or_targets_do_not_stack():
    with pytest.raises(AssertionError, match='shape'):
        lora.stack([random_adapter(), random_adapter(rank=2)])
    fewer = {'layers': {'q_proj': random_adapter()['layers']['q_proj']}}
    with pytest.raises(AssertionError, match='struct'):
        lora.stack([random_adapter(), fewer])


def test_a_wider_rank_changes_nothing():
    narrow, wide = random_adapter(rank=4), lora.pad_rank(random_adapter(rank=4), 7)
    for name, entry in wide['layers'].items():
        assert entry['a'].shape[-1] == entry['b'].shape[-2] == 7
        # Added zeros do not change a sum of products in exact order; a library may order anew.
        np.testing.assert_allclose(
            entry['a'] @ entry['b'],
            narrow['layers'][name]['a'] @ narrow['layers'][name]['b'],
            rtol=0, atol=1e-5,
        )  # fmt: skip
        np.testing.assert_array_equal(entry['a'][..., :4], narrow['layers'][name]['a'])
        assert not entry['a'][..., 4:].any() and not entry['b'][:, 4:].any()
    assert_equal(lora.pad_rank(narrow, 4), narrow)
    with pytest.raises(ArgumentError, match='rank 3: expected at least 4'):
        lora.pad_rank(narrow, 3)


def test_a_scale_goes_into_b_alone():
    adapter = random_adapter()
    folded = lora.fold_scale(adapter, 0.5)
    for name, entry in adapter['layers'].items():
        np.testing.assert_array_equal(folded['layers'][name]['b'], entry['b'] / 2)
        np.testing.assert_array_equal(folded['layers'][name]['a'], entry['a'])
