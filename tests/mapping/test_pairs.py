"""Users' own pairs: mapped and translated with adapters of peft, without models or tasks."""

import shutil

import numpy as np
import pytest

from lorajax import commands, io, launch, lora, mapping
from lorajax.errors import InputError
from lorajax.mapping import pairs
from lorajax.models.config import read as read_config
from tests.commands.test_commands import SMALL, args, random_adapter

peft = pytest.importorskip('peft')
torch = pytest.importorskip('torch')


def write_with_peft(directory, base, seed, rank=2):
    """Saves a random adapter of a base model as peft does."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(lora.TARGETS),
                             init_lora_weights=False)  # fmt: skip
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(directory)


@pytest.fixture(scope='module')
def bases(tmp_path_factory):
    from tests.models import reference

    root = tmp_path_factory.mktemp('bases')
    for side, family in (('source', 'qwen2'), ('target', 'llama')):
        reference.make(root / side, family)
    return {side: root / side for side in pairs.SIDES}


@pytest.fixture(scope='module')
def collection(bases, tmp_path_factory):
    root = tmp_path_factory.mktemp('pairs')
    for seed in range(4):
        for side, base in bases.items():
            write_with_peft(root / f'task{seed}' / side, base, seed)
    write_with_peft(root.parent / 'query', bases['source'], 9)
    return root


@pytest.mark.parity
def test_map_then_translate_adapters_of_peft_and_run_the_result_in_peft(
    collection, bases, tmp_path, caplog
):
    given = args(pairs=str(collection), method='matched_scaled', output=tmp_path / 'mapping')
    commands.fit_map(SMALL, given)
    assert io.read_json(tmp_path / 'mapping' / 'bases.json') == {
        side: str(path) for side, path in bases.items()
    }
    query = collection.parent / 'query'
    out = tmp_path / 'out'
    commands.translate(SMALL, args(mapping=tmp_path / 'mapping', adapter=query, output=out))
    assert 'base_model:' in (out / 'README.md').read_text()
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(bases['target'])
    tokens = torch.arange(3, 15)[None]
    with torch.no_grad():
        before = plain(tokens).logits
        wrapped = peft.PeftModel.from_pretrained(plain, out)
        after = wrapped(tokens).logits.numpy()
    from lorajax import models

    model = models.load_model(str(bases['target']))
    mine = lora.load_peft(out, read_config(bases['target']).num_layers)[1]
    expected = np.asarray(model.logits(tokens.numpy().astype(np.int32), adapter=mine))
    assert np.abs(after - before.numpy()).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-4 * np.abs(expected).max())


def save(path, side, seed, base, rank=2):
    adapter = random_adapter(side, seed)
    if rank != 2:
        adapter = lora.pad_rank(adapter, rank)
    lora.save_peft(path, lora.LoraConfig(rank=rank, alpha=rank, base_model=base), adapter)


@pytest.fixture
def small(tmp_path):
    for seed in range(3):
        for side in pairs.SIDES:
            save(tmp_path / 'pairs' / f't{seed}' / side, side, seed, f'a/{side}')
    return tmp_path / 'pairs'


def refused(root, tmp_path, match):
    with pytest.raises(InputError, match=match):
        commands.fit_map(SMALL, args(pairs=str(root), method='mean', output=tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()


def test_a_missing_half_is_named(small, tmp_path):
    shutil.rmtree(small / 't1' / 'target')
    refused(small, tmp_path, r't1/target: is missing')


def test_an_adapter_of_another_base_is_named(small, tmp_path):
    shutil.rmtree(small / 't2' / 'source')
    save(small / 't2' / 'source', 'source', 5, 'b/other')
    refused(small, tmp_path, r"t2/source: belongs to 'b/other', .* to 'a/source'")


def test_differing_shapes_are_named(small, tmp_path):
    shutil.rmtree(small / 't2' / 'target')
    save(small / 't2' / 'target', 'target', 5, 'a/target', rank=3)
    refused(small, tmp_path, r't2.*q_proj')


def test_an_empty_or_absent_directory_is_refused(tmp_path):
    refused(tmp_path / 'no', tmp_path, 'no such directory')
    (tmp_path / 'empty').mkdir()
    refused(tmp_path / 'empty', tmp_path, r'expected <task>/\{source,target\}')


def test_the_mapping_is_that_of_fit_on_the_same_adapters(small, tmp_path):
    given = args(pairs=str(small), method='delta_ridge', output=tmp_path / 'out')
    commands.fit_map(SMALL, given)
    source, target, _ = pairs.read(small)
    expected = mapping.fit('delta_ridge', source, target).predict(random_adapter('source', 9))
    found = mapping.load(tmp_path / 'out').predict(random_adapter('source', 9))
    for name, entry in expected['layers'].items():
        for key, leaf in entry.items():
            np.testing.assert_array_equal(found['layers'][name][key], leaf)


def test_the_command_line_knows_map():
    assert commands.COMMANDS['map'] is commands.fit_map
    assert launch.flags.FLAGS['pairs'].value is None
