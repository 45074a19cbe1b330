"""What makes and reads trees keeps to the shapes that types.py states."""

import jax
import numpy as np

from lorajax import lora, models, types
from lorajax.models import presets

CONFIG = presets.QWEN2_TINY


def adapters():
    """An adapter as it is made, and as arrays on the host."""
    fresh = lora.init_adapter(
        jax.random.key(0), CONFIG.projections, CONFIG.num_layers, 4, ('q_proj', 'down_proj')
    )
    return fresh, jax.tree.map(np.asarray, fresh)


def test_an_adapter_has_factors_of_each_layer_by_projection():
    for adapter in adapters():
        assert adapter.keys() == {'layers'}
        assert adapter['layers'].keys() <= CONFIG.projections.keys()
        for name, entry in adapter['layers'].items():
            fan_in, fan_out = CONFIG.projections[name]
            assert entry['a'].shape == (CONFIG.num_layers, fan_in, 4)
            assert entry['b'].shape == (CONFIG.num_layers, 4, fan_out)
            assert entry['a'].dtype == entry['b'].dtype == np.float32
            assert all(isinstance(leaf, types.Array) for leaf in entry.values())


def test_leaves_of_layers_are_stacked_on_a_leading_axis():
    params = models.random_model(CONFIG, jax.random.key(0)).params
    leaves = jax.tree.leaves(params['layers'])
    assert leaves and {leaf.shape[0] for leaf in leaves} == {CONFIG.num_layers}
