"""Adapters written here pass vLLM's own checks, and do there what they do here."""

import numpy as np
import pytest

from lorajax import lora
from lorajax.lora.config import module_name
from tests.lora import vllm_rules

SIZES = {'q_proj': (6, 5), 'down_proj': (7, 6)}


def tree(rank, depth=2):
    """A random adapter."""
    rng = np.random.default_rng(0)
    return {'layers': {
        name: {
            'a': rng.normal(size=(depth, fan_in, rank)).astype(np.float32),
            'b': rng.normal(size=(depth, rank, fan_out)).astype(np.float32),
        }
        for name, (fan_in, fan_out) in SIZES.items()
    }}  # fmt: skip


def assert_same_updates(directory, adapter):
    """What vLLM would add is what the tree says."""
    found = vllm_rules.load(directory)
    for name, entry in adapter['layers'].items():
        for layer in range(len(entry['a'])):
            a, b = (entry[factor][layer].astype(np.float64) for factor in 'ab')
            update = found.pop(module_name(name, layer))
            np.testing.assert_allclose(update, a @ b, rtol=1e-5, atol=1e-6)  # float32 factors
    assert not found


@pytest.mark.parametrize(
    'config',
    [lora.LoraConfig(4, 8, tuple(SIZES)), lora.LoraConfig(4, 6, tuple(SIZES), use_rslora=True)],
    ids=['plain', 'rslora'],
)
def test_an_adapter_does_in_vllm_what_it_does_here(tmp_path, config):
    lora.save_peft(tmp_path / 'x', config, tree(4), base_model='owner/base')
    assert_same_updates(tmp_path / 'x', tree(4))


def test_patterns_are_ignored_there_and_saving_without_them_helps(tmp_path):
    config = lora.LoraConfig(2, 2, tuple(SIZES), rank_pattern={'down_proj': 4})
    adapter = tree(4)
    for factor, axis in (('a', -1), ('b', -2)):  # q_proj has rank 2: the rest is filling
        leaf = adapter['layers']['q_proj'][factor]
        np.moveaxis(leaf, axis, 0)[2:] = 0
    lora.save_peft(tmp_path / 'x', config, adapter)
    with pytest.raises(AssertionError, match='has rank 4, the config 2'):
        vllm_rules.load(tmp_path / 'x')
    read = lora.load_peft(tmp_path / 'x')
    plain = lora.LoraConfig(rank=4, alpha=4, targets=read.config.targets)
    lora.save_peft(tmp_path / 'y', plain, lora.pad_rank(read.tree, 4))
    assert_same_updates(tmp_path / 'y', adapter)
