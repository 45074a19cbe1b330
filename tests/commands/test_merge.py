"""A merged model holds weight plus update."""

import numpy as np
import pytest

from lorajax import lora, toy
from lorajax.errors import ArgumentError, InputError
from lorajax.io import tensor_files
from tests.commands.command_line import run

NAME = 'model.layers.{}.self_attn.q_proj.weight'


def test_the_update_is_in_the_weights(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 64, 2)), rng.normal(size=(4, 2, 64))
    config = lora.LoraConfig(rank=2, alpha=2, targets=('q_proj',))
    lora.save_peft(tmp_path / 'adapter', config, {'layers': {'q_proj': {'a': a, 'b': b}}})
    merge = ['merge', '--model=toy-source', f'--adapter={tmp_path}/adapter']
    run(*merge, f'--output={tmp_path}/out')
    before, after = (
        tensor_files.read(directory / 'model.safetensors')
        for directory in (toy.MODELS['toy-source'], tmp_path / 'out')
    )
    for layer in range(4):
        name = NAME.format(layer)
        delta = after[name] - before[name]
        np.testing.assert_allclose(delta, (a[layer] @ b[layer]).T, atol=1e-5)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert changed == [NAME.format(layer) for layer in range(4)]
    with pytest.raises(ArgumentError, match='expected a new directory'):
        run(*merge, f'--output={tmp_path}/out')


def test_an_adapter_of_another_depth_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 64, 2)), rng.normal(size=(4, 2, 64))
    config = lora.LoraConfig(rank=2, alpha=2, targets=('q_proj',))
    lora.save_peft(tmp_path / 'adapter', config, {'layers': {'q_proj': {'a': a, 'b': b}}})
    with pytest.raises(InputError, match='has layer 3, the model has 3 layers'):
        run('merge', '--model=toy-target', f'--adapter={tmp_path}/adapter',
            f'--output={tmp_path}/wrong')  # fmt: skip
    assert not (tmp_path / 'wrong').exists()


def test_an_adapter_of_another_base_by_name_is_merged_with_a_warning(tmp_path, caplog):
    config = lora.LoraConfig(rank=1, alpha=1, targets=('q_proj',))
    tree = {'layers': {'q_proj': {'a': np.ones((4, 64, 1)), 'b': np.ones((4, 1, 64))}}}
    lora.save_peft(tmp_path / 'adapter', config, tree, base_model='a/base')
    with caplog.at_level('WARNING', logger='absl'):
        run('merge', '--model=toy-source', f'--adapter={tmp_path}/adapter',
            f'--output={tmp_path}/out')  # fmt: skip
    assert 'belongs to a/base by its config, merged into toy-source' in caplog.text
