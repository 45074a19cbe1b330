"""Adapters travel between lorajax and peft in both directions without changing."""

import dataclasses
import json

import numpy as np
import pytest

from lorajax import lora, models
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.lora.peft import scale

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
from tests.lora import round_trip  # noqa: E402
from tests.models import reference  # noqa: E402


def torch_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens.astype(np.int64))).logits.numpy()


@pytest.mark.parity
@pytest.mark.parametrize('name', round_trip.CONFIGS)
def test_adapters_travel_both_ways_with_the_same_bits_and_logits(tmp_path, name):
    family = ('qwen2', 'llama')[list(round_trip.CONFIGS).index(name) % 2]
    found = round_trip.measure(tmp_path, family, name)
    assert found['same_files'] and found['same_settings'] and found['same_trees']
    assert found['read'] <= 1e-4 and found['written'] <= 1e-4
    assert found['change'] > 0.05


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


def test_nan_is_not_written(tmp_path):
    adapter = {'layers': {'q_proj': {'a': np.full((2, 6, 3), np.nan), 'b': np.ones((2, 3, 6))}}}
    with pytest.raises(InputError, match='NaN'):
        lora.save_peft(tmp_path / 'bad', lora.LoraConfig(3, 3, ('q_proj',)), adapter)
    assert not (tmp_path / 'bad').exists()


@pytest.mark.parity
def test_what_was_trained_here_survives_being_saved_by_peft(tmp_path):
    """Without the file of last bits, which peft does not carry over: `b` was scaled once."""
    base = reference.make(tmp_path / 'base', 'qwen2')
    projections = models.config.read(tmp_path / 'base').projections
    config = lora.LoraConfig(rank=5, alpha=7, use_rslora=True)
    rng = np.random.default_rng(0)
    tree = {'layers': {}}
    for name, (fan_in, fan_out) in projections.items():
        b = rng.normal(0, 0.05, (3, 5, fan_out)).astype(np.float32)
        tree['layers'][name] = {
            'a': rng.normal(0, 0.05, (3, fan_in, 5)).astype(np.float32),
            'b': scale.fold(b, config.scale_of(name, 0)),
        }
    lora.save_peft(tmp_path / 'mine', config, tree)
    assert not (tmp_path / 'mine' / 'lorajax_residual.safetensors').exists()
    wrapped = peft.PeftModel.from_pretrained(base, tmp_path / 'mine')
    wrapped.save_pretrained(tmp_path / 'theirs')
    assert round_trip.same_files(tmp_path / 'mine', tmp_path / 'theirs')
    again, found = lora.load_peft(tmp_path / 'theirs')
    assert dataclasses.replace(again, base_model=None) == config
    assert round_trip.same_trees(found, tree)


SCALES = [2.0, 1.5, 10 / 12, 20 / 12**0.5, 1 / 3, 1e-3, 300.0]


@pytest.mark.parametrize('factor', SCALES)
def test_a_residual_makes_up_for_what_no_float32_folds_to(factor):
    rng = np.random.default_rng(0)
    powers = np.ldexp(np.float32(1), np.arange(-149, 100), dtype=np.float32)
    edges = np.concatenate([powers, -powers, np.float32([0.0, -0.0, 7e-45, 1e-40])])
    wanted = np.concatenate([rng.normal(0, 0.05, 100_000).astype(np.float32), edges])
    unscaled = scale.unfold(wanted, factor)
    missing = scale.residual(unscaled, wanted, factor)
    folded = scale.fold(unscaled, factor)
    if missing is not None:
        folded = scale.add_residual(folded, missing)
    assert folded.tobytes() == wanted.tobytes()


@pytest.mark.parametrize('factor', SCALES)
def test_what_was_scaled_needs_no_residual_and_no_float32_is_overlooked(factor):
    b = np.random.default_rng(0).normal(0, 0.05, 100_000).astype(np.float32)
    folded = scale.fold(b, factor)
    assert scale.residual(scale.unfold(folded, factor), folded, factor) is None
    reached = scale.same_bits(scale.fold(scale.unfold(b, factor), factor), b)
    near = (b / np.float32(factor)).view(np.int32)
    tried = [(near + step).view(np.float32) for step in range(-3, 4)]
    exists = np.any([scale.same_bits(scale.fold(t, factor), b) for t in tried], axis=0)
    np.testing.assert_array_equal(reached, exists)


def odd_adapter(shape=(2, 6, 3, 5), seed=0):
    """An adapter whose numbers are the fold of nothing, mostly."""
    depth, fan_in, rank, fan_out = shape
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(depth, fan_in, rank)), rng.normal(size=(depth, rank, fan_out))
    return {'layers': {'q_proj': {'a': a.astype(np.float32), 'b': b.astype(np.float32)}}}


ODD = lora.LoraConfig(rank=3, alpha=10, targets=('q_proj',), use_rslora=True)


def test_a_residual_of_other_weights_is_ignored_and_removed(tmp_path):
    lora.save_peft(tmp_path / 'x', ODD, odd_adapter())
    residual = tmp_path / 'x' / 'lorajax_residual.safetensors'
    stale = residual.read_bytes()
    other = lora.load_peft(tmp_path / 'x')[1]
    assert round_trip.same_trees(other, odd_adapter())
    lora.save_peft(tmp_path / 'x', dataclasses.replace(ODD, alpha=3 * 3**0.5), odd_adapter(seed=1))
    residual.write_bytes(stale)
    path = tmp_path / 'x' / 'adapter_model.safetensors'
    b = tensor_files.read(path)['base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight']
    config, adapter = lora.load_peft(tmp_path / 'x')
    folded = scale.fold(b.T, config.scale_of('q_proj', 0))
    np.testing.assert_array_equal(adapter['layers']['q_proj']['b'][0], folded)
    lora.save_peft(tmp_path / 'x', dataclasses.replace(config, alpha=6, use_rslora=False), adapter)
    assert not residual.exists()


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32'])
def test_the_dtype_asked_for_is_written_rounded_once(tmp_path, dtype):
    adapter = odd_adapter()
    config = lora.LoraConfig(rank=3, alpha=6, targets=('q_proj',))
    lora.save_peft(tmp_path / 'x', config, adapter, dtype=dtype)
    tensors = tensor_files.read(tmp_path / 'x' / 'adapter_model.safetensors')
    assert {value.dtype.name for value in tensors.values()} == {dtype}
    config, found = lora.load_peft(tmp_path / 'x')
    rounded = (adapter['layers']['q_proj']['b'] / 2).astype(dtype).astype(np.float32) * 2
    np.testing.assert_array_equal(found['layers']['q_proj']['b'], rounded)
    lora.save_peft(tmp_path / 'y', config, found)
    assert round_trip.same_files(tmp_path / 'x', tmp_path / 'y')


def test_a_tree_that_changed_is_not_rounded_to_the_dtype_of_its_file(tmp_path):
    lora.save_peft(tmp_path / 'x', ODD, odd_adapter(), dtype='bfloat16')
    config, adapter = lora.load_peft(tmp_path / 'x')
    changed = {'layers': {'q_proj': {**adapter['layers']['q_proj'],
        'b': odd_adapter(seed=2)['layers']['q_proj']['b']}}}  # fmt: skip
    lora.save_peft(tmp_path / 'y', config, changed)
    tensors = tensor_files.read(tmp_path / 'y' / 'adapter_model.safetensors')
    kinds = {name.split('.')[-2]: value.dtype.name for name, value in tensors.items()}
    assert kinds == {'lora_A': 'bfloat16', 'lora_B': 'float32'}
    assert round_trip.same_trees(lora.load_peft(tmp_path / 'y')[1], changed)


@pytest.mark.parametrize(
    ('options', 'edit', 'dtype', 'line'),
    [
        (dict(rank=4), None, None,
         'model.layers.0.self_attn.q_proj has rank 3, its config says 4'),
        (dict(rank=2), None, None,
         'model.layers.0.self_attn.q_proj has rank 3, its config says 2'),
        (dict(layers=(1,)), None, None, 'q_proj changes layers that its config leaves out'),
        (dict(layers=(0, 2)), None, None,
         'q_proj of the adapter has 2 layers, its config names layer 2'),
        (dict(targets=('k_proj',)), None, None, 'the adapter has no k_proj'),
        (dict(), np.inf, None, 'q_proj of the adapter holds NaN or infinity'),
        (dict(), 1e6, 'float16',
         'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight exceeds float16'),
        (dict(), None, 'int8', 'dtype is int8, expected one of float32, bfloat16, float16'),
        (dict(), None, 'fp16', 'dtype is fp16, expected one of float32, bfloat16, float16'),
    ],
)  # fmt: skip
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, options, edit, dtype, line):
    adapter = odd_adapter()
    if edit:
        adapter['layers']['q_proj']['a'][0, 0, 0] = edit
    with pytest.raises(InputError) as error:
        lora.save_peft(tmp_path / 'x', dataclasses.replace(ODD, **options), adapter, dtype=dtype)
    assert str(error.value) == f'{tmp_path}/x: {line}'
    assert list(tmp_path.iterdir()) == []


def test_every_field_that_vllm_reads_is_written(tmp_path):
    lora.save_peft(tmp_path / 'x', ODD, odd_adapter(), base_model='a/base')
    written = json.loads((tmp_path / 'x' / 'adapter_config.json').read_text())
    needed = dict(r=3, lora_alpha=10, target_modules=['q_proj'], bias='none', use_rslora=True,
                  use_dora=False, modules_to_save=None, peft_type='LORA')  # fmt: skip
    assert {name: written[name] for name in needed} == needed
    names = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert set(written) <= names  # peft warns of any other


def test_a_module_that_was_left_out_is_written_once_it_changes_something(tmp_path):
    tree = {'layers': {name: odd_adapter()['layers']['q_proj'] for name in ('q_proj', 'k_proj')}}
    config = dataclasses.replace(ODD, targets=('q_proj', 'k_proj'))
    lora.save_peft(tmp_path / 'x', config, tree)
    path = tmp_path / 'x' / 'adapter_config.json'
    excluding = {**json.loads(path.read_text()), 'exclude_modules': ['layers.1.self_attn.q_proj']}
    path.write_text(json.dumps(excluding))
    weights = tmp_path / 'x' / 'adapter_model.safetensors'
    kept = {n: v for n, v in tensor_files.read(weights).items() if 'layers.1.self_attn.q' not in n}
    tensor_files.write(weights, kept)
    read, found = lora.load_peft(tmp_path / 'x')
    assert not found['layers']['q_proj']['b'][1].any() and found['layers']['k_proj']['b'][1].any()
    lora.save_peft(tmp_path / 'same', read, found)
    assert round_trip.same_files(tmp_path / 'x', tmp_path / 'same')
    lora.save_peft(tmp_path / 'more', read, tree)
    again, more = lora.load_peft(tmp_path / 'more')
    assert again.file.settings['exclude_modules'] is None
    assert round_trip.same_trees(more, tree)


def test_patterns_can_be_folded_away_for_vllm(tmp_path):
    adapter = odd_adapter()
    patterned = dataclasses.replace(ODD, alpha_pattern={r'layers\.1\..*': 7})
    lora.save_peft(tmp_path / 'x', patterned, adapter)
    config, read = lora.load_peft(tmp_path / 'x')
    plain = lora.LoraConfig(rank=3, alpha=3, targets=config.targets)
    lora.save_peft(tmp_path / 'y', plain, read)
    again, found = lora.load_peft(tmp_path / 'y')
    assert again == plain and round_trip.same_trees(found, adapter)


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
