"""Merged checkpoints are what peft's merging gives."""

import jax
import ml_dtypes
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.models import presets
from lorajax.models.hf import export, merge
from tests import tiny_models

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
transformers = pytest.importorskip('transformers')
from tests.lora import round_trip  # noqa: E402
from tests.lora.round_trip import relative, write_with_peft  # noqa: E402
from tests.models import reference  # noqa: E402
from tests.models.reference import assert_same_state  # noqa: E402

OPTIONS = dict(r=6, lora_alpha=10, use_rslora=True, target_modules=list(lora.TARGETS))
TOKENS = np.random.default_rng(0).integers(3, 101, (2, 12)).astype(np.int32)


def load(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype='auto').eval()


def logits(model):
    with torch.no_grad():
        return model.float()(torch.tensor(TOKENS.astype(np.int64))).logits.numpy()


def merged_in_float64(wrapped, base):
    """Returns weight plus update of every tensor, from peft's own factors and scales."""
    exact = {name: value.double() for name, value in base.items()}
    for path, module in wrapped.named_modules():
        if getattr(module, 'lora_A', None):
            a, b = (side['default'].weight.double() for side in (module.lora_A, module.lora_B))
            name = f'{path.removeprefix("base_model.model.")}.weight'
            exact[name] = exact[name] + module.scaling['default'] * (b @ a).detach()
    return exact


def tensors_below(directory):
    return {
        name: value
        for path in sorted(directory.glob('*.safetensors'))
        for name, value in tensor_files.read(path).items()
    }


@pytest.mark.parity
@pytest.mark.parametrize(('family', 'tied', 'dtype'), [
    ('qwen2', True, 'float32'), ('qwen2', False, 'bfloat16'), ('qwen2', True, 'float16'),
    ('llama', False, 'float32'), ('llama', True, 'bfloat16'), ('llama', False, 'float16'),
    ('qwen3', True, 'float32'), ('gemma3_text', True, 'float32'),
])  # fmt: skip
def test_a_merged_model_is_that_of_peft(tmp_path, family, tied, dtype):
    base = reference.make(tmp_path / 'base', family, tied)
    write_with_peft(tmp_path / 'adapter', base, size=0.1, **OPTIONS)
    base.to(getattr(torch, dtype)).save_pretrained(tmp_path / 'base')
    plain = logits(load(tmp_path / 'base'))
    wrapped = peft.PeftModel.from_pretrained(load(tmp_path / 'base'), tmp_path / 'adapter')
    exact = merged_in_float64(wrapped, load(tmp_path / 'base').state_dict())
    theirs = wrapped.merge_and_unload()
    merge.merge_and_save(tmp_path / 'base', tmp_path / 'adapter', tmp_path / 'out')
    ours = load(tmp_path / 'out')
    assert {value.dtype for value in ours.state_dict().values()} == {getattr(torch, dtype)}
    eps = torch.finfo(getattr(torch, dtype)).eps
    for name, value in theirs.state_dict().items():
        mine = ours.state_dict()[name]
        # Sums in another order: a unit in the last place where rounding hangs on it.
        assert torch.allclose(mine.float(), value.float(), rtol=2 * eps, atol=1e-6), name
        # And no worse than peft's own, which is what one rounding costs.
        errors = [float((tensor.double() - exact[name]).norm()) for tensor in (mine, value)]
        assert errors[0] <= 1.1 * errors[1], name
    expected, actual = logits(theirs), logits(ours)
    # Float32 sums in another order; a unit in the last place of some weights in half precision.
    assert relative(actual, expected) <= max(1e-5, 0.1 * eps)
    assert relative(plain, expected) > 0.05


@pytest.mark.parity
@pytest.mark.parametrize(
    'name', ['rank and alpha patterns', 'expression, uneven layers', 'all-linear, bfloat16']
)
def test_any_selection_of_modules_is_merged_as_peft_does(tmp_path, name):
    base = reference.make(tmp_path / 'base', 'llama')
    write_with_peft(tmp_path / 'adapter', base, size=0.1, **round_trip.CONFIGS[name])
    base.to(torch.bfloat16).save_pretrained(tmp_path / 'base')
    wrapped = peft.PeftModel.from_pretrained(load(tmp_path / 'base'), tmp_path / 'adapter')
    theirs = wrapped.merge_and_unload()
    merge.merge_and_save(tmp_path / 'base', tmp_path / 'adapter', tmp_path / 'out')
    assert relative(logits(load(tmp_path / 'out')), logits(theirs)) <= 1e-5


@pytest.fixture
def pair(tmp_path):
    """A base with tokenizer, and an adapter of some modules, both of lorajax."""
    tiny_models.write(tmp_path / 'base', 'qwen2', ['some text', 'more of it'])
    base = models.load_model(str(tmp_path / 'base'))
    export.save_params(tmp_path / 'base', base.config, base.params)
    rng = np.random.default_rng(0)
    layers = {}
    for name in ('q_proj', 'down_proj'):
        fan_in, fan_out = base.config.projections[name]
        layers[name] = {'a': rng.normal(size=(2, fan_in, 3)), 'b': rng.normal(size=(2, 3, fan_out))}
        layers[name]['b'][0] = 0
    config = lora.LoraConfig(rank=3, alpha=5, targets=tuple(layers), layers=(1,))
    lora.save_peft(tmp_path / 'adapter', config, {'layers': layers})
    return tmp_path


def run_merge(root):
    merge.merge_and_save(root / 'base', root / 'adapter', root / 'out')


def test_merge_keeps_all_that_is_not_adapted(pair):
    (pair / 'base' / 'LICENSE').write_text('mine')
    left_out = {'other.bin', 'adapter_config.json'}
    for name in left_out:
        (pair / 'base' / name).write_bytes(b'x')
    run_merge(pair)
    before, after = tensors_below(pair / 'base'), tensors_below(pair / 'out')
    changed = {name for name, value in before.items() if value.tobytes() != after[name].tobytes()}
    assert before.keys() == after.keys()
    assert changed == {
        'model.layers.1.self_attn.q_proj.weight', 'model.layers.1.mlp.down_proj.weight'
    }  # fmt: skip
    kept = {path.name for path in (pair / 'base').iterdir()} - left_out
    assert {path.name for path in (pair / 'out').iterdir()} == kept
    for name in kept - {'model.safetensors'}:
        assert (pair / 'out' / name).read_bytes() == (pair / 'base' / name).read_bytes()
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair / 'out')
    assert tokenizer.decode(tokenizer('some text').input_ids) == 'some text'


def test_a_merged_model_answers_like_base_and_adapter_here(pair):
    run_merge(pair)
    base = models.load_model(str(pair / 'base'))
    adapter = lora.load_peft(pair / 'adapter', base.config.num_layers)[1]
    expected = np.asarray(base.logits(TOKENS, adapter=adapter))
    actual = np.asarray(models.load_model(str(pair / 'out')).logits(TOKENS))
    assert relative(actual, expected) <= 1e-4
    assert relative(np.asarray(base.logits(TOKENS)), expected) > 0.05


def test_shards_are_merged_into_the_same_tensors(pair):
    run_merge(pair)
    base = models.load_model(str(pair / 'base'))
    (pair / 'base' / 'model.safetensors').unlink()
    export.save_params(pair / 'base', base.config, base.params, shard_bytes=30_000)
    merge.merge_and_save(pair / 'base', pair / 'adapter', pair / 'shards', shard_bytes=50_000)
    assert len(list((pair / 'shards').glob('model-*.safetensors'))) > 2
    whole, shards = tensors_below(pair / 'out'), tensors_below(pair / 'shards')
    assert whole.keys() == shards.keys()
    assert all(value.tobytes() == shards[name].tobytes() for name, value in whole.items())
    assert_same_state(load(pair / 'shards'), load(pair / 'out'))


def test_a_second_head_stays_beside_the_embedding(pair):
    path = pair / 'base' / 'model.safetensors'
    tensors = tensor_files.read(path)
    assert 'lm_head.weight' not in tensors
    head = tensors['model.embed_tokens.weight'].astype(ml_dtypes.bfloat16)
    tensor_files.write(path, {**tensors, 'lm_head.weight': head})
    run_merge(pair)
    assert tensors_below(pair / 'out')['lm_head.weight'].tobytes() == head.tobytes()


def damage(root, name, change):
    path = root / 'base' / 'model.safetensors'
    tensors = tensor_files.read(path)
    tensors[name] = change(tensors[name].copy())
    tensor_files.write(path, tensors)


UP, Q = 'model.layers.0.mlp.up_proj.weight', 'model.layers.1.self_attn.q_proj.weight'


def put(value):
    def change(tensor):
        tensor[0, 0] = value
        return tensor

    return change


def flip(root):
    path = root / 'adapter' / 'adapter_model.safetensors'
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def other_widths(root):
    config = lora.LoraConfig(rank=1, alpha=1, targets=('q_proj',))
    tree = {'layers': {'q_proj': {'a': np.ones((2, 40, 1)), 'b': np.ones((2, 1, 40))}}}
    lora.save_peft(root / 'adapter', config, tree)


def other_depth(root):
    config = lora.LoraConfig(rank=1, alpha=1, targets=('q_proj',))
    tree = {'layers': {'q_proj': {'a': np.ones((1, 48, 1)), 'b': np.ones((1, 1, 48))}}}
    lora.save_peft(root / 'adapter', config, tree)


def halve(root):
    """Stores the base in float16, with a number near its largest."""
    model = models.load_model(str(root / 'base'))
    export.save_params(root / 'base', model.config, model.params, dtype='float16')
    damage(root, Q, put(65504))
    config = lora.LoraConfig(rank=1, alpha=1, targets=('q_proj',))
    tree = {'layers': {'q_proj': {'a': np.ones((2, 48, 1)), 'b': np.full((2, 1, 48), 100.0)}}}
    lora.save_peft(root / 'adapter', config, tree)


@pytest.mark.parametrize(
    ('prepare', 'line'),
    [
        (lambda r: damage(r, UP, put(np.nan)), f'{{r}}/base/model.safetensors: {UP} holds NaN or '
         'infinity'),
        (flip, '{r}/adapter/adapter_model.safetensors: corrupt: its SHA-256 is '),
        (other_widths, '{r}/adapter/adapter_model.safetensors: model.layers.0.self_attn.q_proj has '
         'widths (in, out) (40, 40), the model has (48, 48)'),
        (other_depth, '{r}/adapter/adapter_model.safetensors: adapts 1 layers, the model has 2; '
         'expected an adapter of it'),
        (halve, f'{{r}}/adapter: merged into {Q} it exceeds float16'),
        (lambda r: (r / 'base' / 'config.json').write_text('{}'),
         "{r}/base/config.json: lacks model_type, expected 'qwen2' or 'qwen3' or"),
    ],
    ids=['nan', 'flip', 'widths', 'depth', 'float16', 'family'],
)  # fmt: skip
def test_what_cannot_be_merged_leaves_nothing_behind(pair, prepare, line):
    prepare(pair)
    before = sorted(pair.rglob('*'))
    with pytest.raises(InputError) as error:
        run_merge(pair)
    assert str(error.value).startswith(line.replace('{r}', str(pair)))
    assert sorted(pair.rglob('*')) == before


def test_merging_agrees_with_the_merge_of_trees(tmp_path):
    preset = presets.QWEN2_TINY
    base = models.random_model(preset, jax.random.key(0))
    (tmp_path / 'base').mkdir()
    export.save_params(tmp_path / 'base', base.config, base.params)
    tree = lora.init_adapter(
        jax.random.key(1), preset.projections, preset.num_layers, 3, lora.TARGETS
    )
    tree = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), tree)
    lora.save_peft(tmp_path / 'adapter', lora.LoraConfig(rank=3, alpha=7), tree)
    merge.merge_and_save(tmp_path / 'base', tmp_path / 'adapter', tmp_path / 'out')
    merged = models.load_model(str(tmp_path / 'out')).params
    expected = lora.merge(base.params, tree)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), merged, expected)
