import numpy as np
import pytest

from lorajax.mapping import layer_alignment

SOURCE = [(p, layer) for p in ('q_proj', 'v_proj') for layer in range(4)]
TARGET = [(p, layer) for p in ('q_proj', 'v_proj', 'o_proj') for layer in range(3)]


def test_depths_match_at_both_ends():
    layers = [layer_alignment.matching_layer(layer, 28, 36) for layer in range(28)]
    assert layers[0] == 0 and layers[-1] == 35 and layers == sorted(layers)
    assert layer_alignment.matching_layer(0, 1, 4) == 3


def test_by_tensor_matches_projection_and_depth_or_falls_back_to_all():
    grouping = layer_alignment.by_tensor(SOURCE, TARGET)
    assert SOURCE[int(grouping.mix[2].argmax())] == ('q_proj', 3)
    assert SOURCE[int(grouping.mix[3].argmax())] == ('v_proj', 0)
    np.testing.assert_array_equal(grouping.mix[:6].sum(1), 1)
    np.testing.assert_array_equal(grouping.mix[6:], 1)


def test_groups_mix_sources_and_sum_targets():
    grouping = layer_alignment.averaged(layer_alignment.by_module(SOURCE, TARGET))
    source, target = np.arange(8.0), np.arange(9.0)
    np.testing.assert_allclose(grouping.kernels(source), [1.5, 5.5, 3.5])
    np.testing.assert_allclose(grouping.targets(target), [3, 12, 21])


@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
def test_between_interpolates(share):
    coarse = layer_alignment.averaged(layer_alignment.one_group(SOURCE, TARGET))
    fine = layer_alignment.averaged(layer_alignment.by_tensor(SOURCE, TARGET))
    mixed = layer_alignment.between(coarse, fine, share)
    np.testing.assert_allclose(mixed.mix.sum(1), 1)
    np.testing.assert_allclose(mixed.mix, share * coarse.mix + (1 - share) * fine.mix)
