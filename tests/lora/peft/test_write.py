"""Adapters travel between lorajax and peft in both directions without changing."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from lorajax import io, lora, models
from lorajax.errors import ArgumentError, InputError
from lorajax.io import tensor_files
from lorajax.lora.peft import scale

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
from tests.lora import round_trip  # noqa: E402
from tests.models import reference  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]


def torch_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens.astype(np.int64))).logits.numpy()


@pytest.mark.parity
@pytest.mark.parametrize('name', round_trip.CONFIGS)
def test_adapters_travel_both_ways_with_the_same_bits_and_logits(tmp_path, name):
    family = ('qwen2', 'llama')[list(round_trip.CONFIGS).index(name) % 2]
    measured = round_trip.measure(tmp_path, family, name)
    assert measured['same_files'] and measured['same_settings'] and measured['same_trees']
    assert measured['units'] <= 1
    assert measured['read'] <= 1e-4 and measured['written'] <= 1e-4
    assert measured['change'] > 0.05


@pytest.mark.parity
@pytest.mark.parametrize('family', ['qwen2', 'llama', 'qwen3', 'mistral', 'gemma2', 'gemma3_text'])
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
    wrapped = peft.PeftModel.from_pretrained(base, tmp_path / 'mine')
    wrapped.save_pretrained(tmp_path / 'theirs')
    assert round_trip.same_files(tmp_path / 'mine', tmp_path / 'theirs')
    again, found = lora.load_peft(tmp_path / 'theirs')
    assert dataclasses.replace(again, base_model=None) == config
    assert round_trip.same_trees(found, tree)


def odd_adapter(shape=(2, 6, 3, 5), seed=0):
    """An adapter whose numbers are the fold of nothing, mostly."""
    depth, fan_in, rank, fan_out = shape
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(depth, fan_in, rank)), rng.normal(size=(depth, rank, fan_out))
    return {'layers': {'q_proj': {'a': a.astype(np.float32), 'b': b.astype(np.float32)}}}


ODD = lora.LoraConfig(rank=3, alpha=10, targets=('q_proj',), use_rslora=True)


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
    assert round_trip.units(lora.load_peft(tmp_path / 'y')[1], changed) <= 1


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


@pytest.mark.parametrize('dtype', ['int8', 'fp16', 'float64'])
def test_another_dtype_is_refused(tmp_path, dtype):
    line = f'adapter_dtype {dtype}: expected one of float32, bfloat16, float16'
    with pytest.raises(ArgumentError, match=line):
        lora.save_peft(tmp_path / 'x', ODD, odd_adapter(), dtype=dtype)
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
    io.write_sums(tmp_path / 'x')
    read, found = lora.load_peft(tmp_path / 'x')
    assert not found['layers']['q_proj']['b'][1].any() and found['layers']['k_proj']['b'][1].any()
    lora.save_peft(tmp_path / 'same', read, found)
    assert round_trip.same_files(tmp_path / 'x', tmp_path / 'same')
    lora.save_peft(tmp_path / 'more', read, tree)
    again, more = lora.load_peft(tmp_path / 'more')
    assert again.file.settings['exclude_modules'] is None
    assert round_trip.units(more, tree) <= 1


def test_patterns_can_be_folded_away_for_vllm(tmp_path):
    adapter = odd_adapter()
    patterned = dataclasses.replace(ODD, alpha_pattern={r'layers\.1\..*': 7})
    lora.save_peft(tmp_path / 'x', patterned, adapter)
    config, read = lora.load_peft(tmp_path / 'x')
    plain = lora.LoraConfig(rank=3, alpha=3, targets=config.targets)
    lora.save_peft(tmp_path / 'y', plain, read)
    again, found = lora.load_peft(tmp_path / 'y')
    assert again == plain and round_trip.same_trees(found, read)
    assert round_trip.units(read, adapter) <= 1


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


def test_the_files_have_sums_and_other_files_stay(tmp_path):
    lora.save_peft(tmp_path / 'x', ODD, odd_adapter())
    io.check_sums(tmp_path / 'x')
    listed = (tmp_path / 'x' / 'SHA256SUMS').read_text().split()[1::2]
    assert listed == ['adapter_config.json', 'adapter_model.safetensors']
    (tmp_path / 'x' / 'README.md').write_text('mine')
    lora.save_peft(tmp_path / 'x', ODD, odd_adapter(seed=1))
    io.check_sums(tmp_path / 'x')
    assert (tmp_path / 'x' / 'README.md').read_text() == 'mine'
    assert round_trip.units(lora.load_peft(tmp_path / 'x')[1], odd_adapter(seed=1)) <= 1
    assert len(list((tmp_path / 'x').iterdir())) == 4


# Replaces an adapter beside another file and ends as SIGKILL does, at one renaming of three.
KILLED = """
import os, sys
import numpy as np
from lorajax import lora

calls, replace = 0, os.replace

def killed(*arguments):
    global calls
    name = os.path.basename(arguments[1])
    calls += not name.startswith('.partial-')
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    replace(*arguments)

os.replace = killed
entry = {'a': np.ones((2, 6, 3), np.float32), 'b': np.ones((2, 3, 5), np.float32)}
lora.save_peft(sys.argv[1], lora.LoraConfig(3, 3, ('q_proj',)), {'layers': {'q_proj': entry}})
"""


@pytest.mark.parametrize('moment', [1, 2, 3])
def test_a_kill_while_files_are_replaced_never_mixes_two_adapters(tmp_path, moment):
    lora.save_peft(tmp_path / 'x', ODD, odd_adapter())
    (tmp_path / 'x' / 'README.md').write_text('mine')
    old = lora.load_peft(tmp_path / 'x')[1]
    done = subprocess.run(
        [sys.executable, '-c', KILLED, tmp_path / 'x', str(moment)], cwd=ROOT, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    if moment == 1:
        assert round_trip.same_trees(lora.load_peft(tmp_path / 'x')[1], old)
    else:
        with pytest.raises(InputError, match='corrupt: its SHA-256 is'):
            lora.load_peft(tmp_path / 'x')


@pytest.mark.parametrize('bias', ['lora_only', 'all'])
def test_biases_of_a_base_without_biases_are_none(tmp_path, bias):
    base = reference.make(tmp_path / 'base', 'llama')
    options = dict(r=4, lora_alpha=8, target_modules=list(lora.TARGETS), bias=bias)
    logits = round_trip.write_with_peft(tmp_path / 'adapter', base, **options)
    model = models.load_model(str(tmp_path / 'base'))
    tokens = np.random.default_rng(0).integers(3, 101, (2, 12)).astype(np.int32)
    config, adapter = lora.load_peft(tmp_path / 'adapter')
    found = np.asarray(model.logits(tokens, adapter=adapter))
    assert round_trip.relative(found, logits(tokens)) <= 1e-4  # as for every other adapter
    lora.save_peft(tmp_path / 'back', config, adapter)
    before, after = (
        json.loads((tmp_path / name / 'adapter_config.json').read_text())
        for name in ('adapter', 'back')
    )
    assert before == {name: after[name] for name in before}
