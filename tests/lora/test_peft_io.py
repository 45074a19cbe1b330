"""Adapters travel between lorajax and peft in both directions without changing."""

import dataclasses
import json

import numpy as np
import pytest

from lorajax import lora, models, safetensors_io
from lorajax.errors import InputError

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
from tests.models import reference  # noqa: E402

ALL = list(lora.TARGETS)
CONFIGS = {
    'plain': dict(r=4, lora_alpha=8, target_modules=ALL),
    'subset': dict(r=3, lora_alpha=3, target_modules=['q_proj', 'v_proj']),
    'rslora': dict(r=16, lora_alpha=32, target_modules=ALL, use_rslora=True),
    'regex': dict(r=2, lora_alpha=4, target_modules=r'.*\.(up|down)_proj'),
    'all-linear': dict(r=2, lora_alpha=1, target_modules='all-linear'),
    'patterns': dict(
        r=4, lora_alpha=8, target_modules=ALL,
        rank_pattern={'layers.1.self_attn.q_proj': 2, 'down_proj': 8},
        alpha_pattern={'down_proj': 32},
    ),
    'layers': dict(r=4, lora_alpha=8, target_modules=['q_proj', 'up_proj'],
                   layers_to_transform=[0, 2]),
}  # fmt: skip


def write_with_peft(directory, base, **options):
    """Wraps a torch model, makes its factors random and saves the adapter."""
    wrapped = peft.get_peft_model(base, peft.LoraConfig(task_type='CAUSAL_LM', **options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if 'lora_' in name:
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    wrapped.save_pretrained(directory)
    return wrapped.eval()


def torch_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens.astype(np.int64))).logits.numpy()


@pytest.mark.parity
@pytest.mark.parametrize('family', ['qwen2', 'llama'])
@pytest.mark.parametrize('name', CONFIGS)
def test_adapter_written_by_peft_gives_the_same_logits_and_bits(tmp_path, family, name):
    base = reference.make(tmp_path / 'base', family)
    wrapped = write_with_peft(tmp_path / 'adapter', base, **CONFIGS[name])
    tokens = np.random.default_rng(0).integers(3, 101, (2, 12)).astype(np.int32)
    expected = torch_logits(wrapped, tokens)
    model = models.load_model(str(tmp_path / 'base'))
    config, adapter = lora.load_peft(tmp_path / 'adapter', num_layers=3)
    actual = np.asarray(model.logits(tokens, adapter=adapter))
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    plain = np.asarray(model.logits(tokens))
    assert np.abs(plain - expected).max() > 0.05 * np.abs(expected).max()

    lora.save_peft(tmp_path / 'back', config, adapter)
    before = safetensors_io.read(tmp_path / 'adapter' / 'adapter_model.safetensors')
    after = safetensors_io.read(tmp_path / 'back' / 'adapter_model.safetensors')
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)


@pytest.mark.parity
@pytest.mark.parametrize('family', ['qwen2', 'llama'])
def test_adapter_written_here_loads_in_peft(tmp_path, family):
    reference.make(tmp_path / 'base', family)
    model = models.load_model(str(tmp_path / 'base'))
    rng = np.random.default_rng(0)
    adapter = {'layers': {}}
    for name, (fan_in, fan_out) in model.config.projections.items():
        adapter['layers'][name] = {
            'a': rng.normal(0, 0.3, (3, fan_in, 4)).astype(np.float32),
            'b': rng.normal(0, 0.3, (3, 4, fan_out)).astype(np.float32),
        }
    config = lora.LoraConfig(rank=4, alpha=8)
    lora.save_peft(tmp_path / 'adapter', config, adapter, base_model=str(tmp_path / 'base'))
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'base')
    wrapped = peft.PeftModel.from_pretrained(base, tmp_path / 'adapter').eval()
    tokens = rng.integers(3, 101, (2, 12)).astype(np.int32)
    expected = torch_logits(wrapped, tokens)
    actual = np.asarray(model.logits(tokens, adapter=adapter))
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    back_config, back = lora.load_peft(tmp_path / 'adapter')
    assert dataclasses.replace(back_config, base_model=None) == config
    for name, entry in adapter['layers'].items():
        for factor, value in entry.items():
            np.testing.assert_array_equal(back['layers'][name][factor], value)


@pytest.fixture
def adapter_directory(tmp_path):
    """A small valid adapter in PEFT format."""
    adapter = {'layers': {'q_proj': {'a': np.ones((2, 6, 3)), 'b': np.ones((2, 3, 6))}}}
    config = lora.LoraConfig(rank=3, alpha=3, targets=('q_proj',))
    lora.save_peft(tmp_path / 'ok', config, adapter)
    return tmp_path / 'ok'


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('use_dora', True), ('bias', 'all'), ('modules_to_save', ['lm_head']),
        ('peft_type', 'IA3'), ('fan_in_fan_out', True), ('init_lora_weights', 'pissa_niter_4'),
        ('r', 0), ('r', 5), ('lora_alpha', 'x'), ('layer_replication', [[0, 2]]),
    ],
)  # fmt: skip
def test_what_cannot_be_represented_is_refused_by_name(adapter_directory, option, value):
    path = adapter_directory / 'adapter_config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), option: value}))
    with pytest.raises(InputError) as error:
        lora.load_peft(adapter_directory)
    message = str(error.value)
    assert str(adapter_directory) in message and '\n' not in message
    assert option in message or 'rank 5' in message


def test_pickles_are_never_loaded(adapter_directory):
    (adapter_directory / 'adapter_model.safetensors').rename(
        adapter_directory / 'adapter_model.bin'
    )
    with pytest.raises(InputError, match='pickle'):
        lora.load_peft(adapter_directory)


def change(directory, edit):
    """Rewrites the weights of an adapter after an edit of its tensors."""
    path = directory / 'adapter_model.safetensors'
    tensors = safetensors_io.read(path)
    edit(tensors)
    safetensors_io.write(path, tensors)


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (lambda t: t.update(extra=np.ones(2, np.float32)), 'unknown tensor extra'),
        (lambda t: t.pop(next(k for k in t if 'lora_B' in k)), 'lacks tensor'),
        (lambda t: [v.fill(np.nan) for v in t.values()], 'NaN'),
        (lambda t: t.clear(), 'no LoRA tensors'),
    ],
)
def test_malformed_weights_are_refused(adapter_directory, edit, words):
    change(adapter_directory, edit)
    with pytest.raises(InputError, match=words):
        lora.load_peft(adapter_directory)


def test_a_layer_without_its_factors_is_named(adapter_directory):
    change(adapter_directory, lambda t: [t.pop(k) for k in list(t) if 'layers.0.' in k])
    with pytest.raises(InputError, match=r'layers\.0\.self_attn\.q_proj'):
        lora.load_peft(adapter_directory)


def test_nan_is_not_written(tmp_path):
    adapter = {'layers': {'q_proj': {'a': np.full((2, 6, 3), np.nan), 'b': np.ones((2, 3, 6))}}}
    with pytest.raises(InputError, match='NaN'):
        lora.save_peft(tmp_path / 'bad', lora.LoraConfig(3, 3, ('q_proj',)), adapter)
    assert not (tmp_path / 'bad').exists()


@pytest.mark.parametrize(
    ('name', 'fields'),
    [
        ('owner/name@v1.0', ('owner/name', 'v1.0')),
        ('owner/name', ('owner/name', None)),
        ('/models/owner@2', ('/models/owner@2', None)),
    ],
)
def test_the_revision_of_a_base_goes_where_peft_looks_for_it(tmp_path, name, fields):
    config = lora.LoraConfig(rank=2, alpha=4, targets=('q_proj',), base_model=name)
    entry = {'a': np.ones((1, 4, 2), np.float32), 'b': np.ones((1, 2, 4), np.float32)}
    lora.save_peft(tmp_path / 'out', config, {'layers': {'q_proj': entry}})
    theirs = peft.PeftConfig.from_pretrained(tmp_path / 'out')
    assert (theirs.base_model_name_or_path, theirs.revision) == fields
    assert lora.load_peft(tmp_path / 'out')[0].base_model == name
