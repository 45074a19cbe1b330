"""Adapters that must be refused, most of them written by peft, and the line for each.

What a case is says `tests/damages.py`.
"""

import copy
import functools
import os
import tempfile

import numpy as np
import peft

from lorajax import lora
from lorajax.errors import InputError
from tests import damages
from tests.models import reference

CONFIG, WEIGHTS, SUMS = 'adapter_config.json', 'adapter_model.safetensors', 'SHA256SUMS'
MODULE = 'model.layers.0.self_attn.q_proj'
TENSOR = f'base_model.model.{MODULE}.lora_A.weight'
UNLIKE_BASE = ', which changes the base weights, expected an adapter of the unchanged base'
PROJECTIONS = {'q_proj': (48, 48), 'k_proj': (48, 16), 'v_proj': (48, 16), 'o_proj': (48, 48),
               'gate_proj': (48, 80), 'up_proj': (48, 80), 'down_proj': (80, 48)}  # fmt: skip


@functools.cache
def _base(family):
    with tempfile.TemporaryDirectory() as directory:
        return reference.make(directory, family)


def _wrapped(kind, family='llama', **options):
    """Returns a case: what peft saves for a config."""

    def make(path):
        config = kind(task_type='CAUSAL_LM', **options)
        peft.get_peft_model(copy.deepcopy(_base(family)), config).save_pretrained(path)

    return make


def _lora(**options):
    return _wrapped(peft.LoraConfig, **{'r': 4, 'target_modules': ['q_proj'], **options})


def _pickled(path):
    """Saves as peft did before safetensors."""
    config = peft.LoraConfig(r=4, target_modules=['q_proj'], task_type='CAUSAL_LM')
    wrapped = peft.get_peft_model(copy.deepcopy(_base('llama')), config)
    wrapped.save_pretrained(path, safe_serialization=False)


def write_valid(path, dtype='float32', with_sums=False):
    """Writes an adapter of the tiny model, as lorajax does or, without sums, as peft does."""
    rng = np.random.default_rng(0)
    layers = {
        name: {
            'a': rng.normal(size=(3, fan_in, 4)).astype(np.float32),
            'b': rng.normal(size=(3, 4, fan_out)).astype(np.float32),
        }
        for name, (fan_in, fan_out) in PROJECTIONS.items()
    }
    lora.save_peft(path, lora.LoraConfig(rank=4, alpha=8), {'layers': layers}, dtype=dtype)
    if not with_sums:
        (path / SUMS).unlink()


VALID = damages.Valid(write_valid, CONFIG, WEIGHTS)


def _foreign_nan(path):
    """Sets the exponent bits of a number in a bfloat16 file."""
    from safetensors.numpy import load, save

    write_valid(path)
    tensors = {k: v.astype('bfloat16') for k, v in load((path / WEIGHTS).read_bytes()).items()}
    first = np.array(tensors[TENSOR])
    first.view(np.uint16)[0, 0] |= 0x7F80
    (path / WEIGHTS).write_bytes(save({**tensors, TENSOR: first}))


def _link_to_itself(path):
    write_valid(path)
    (path / CONFIG).unlink()
    (path / CONFIG).symlink_to(path / CONFIG)


def _pipe(path):
    write_valid(path)
    (path / CONFIG).unlink()
    os.mkfifo(path / CONFIG)


def _no_directory(path):
    path.write_text('')


_UNEXPRESSED_CONFIGS = {
    'DoRA': (_lora(use_dora=True), 'use_dora is true, expected false'),
    'biases of another kind': (VALID.settings(bias='some'), "bias is 'some', expected 'none'"),
    'bias of lora_B': (
        _lora(lora_bias=True, target_modules=['q_proj']),
        'lora_bias is true, expected false',
    ),
    'a fully trained head': (
        _lora(modules_to_save=['lm_head']),
        "modules_to_save is ['lm_head'], expected null",
    ),
    'trained tokens': (
        _lora(trainable_token_indices=[5, 6]),
        'trainable_token_indices is [5, 6], expected null',
    ),
    'adapted parameters': (
        _lora(target_parameters=['mlp.gate_proj.weight']),
        "target_parameters is ['mlp.gate_proj.weight'], expected null",
    ),
    'repeated layers': (
        VALID.settings(layer_replication=[[0, 2], [1, 3]]),
        'layer_replication is [[0, 2], [1, 3]], expected null',
    ),
    'activated LoRA': (
        _lora(alora_invocation_tokens=[5]),
        'alora_invocation_tokens is [5], expected null',
    ),
    'transposed weights': (
        VALID.settings(fan_in_fan_out=True),
        'fan_in_fan_out is true, expected false',
    ),
    'PiSSA': (_lora(init_lora_weights='pissa'), f"init_lora_weights is 'pissa'{UNLIKE_BASE}"),
    'fast PiSSA': (
        _lora(init_lora_weights='pissa_niter_4'),
        f"init_lora_weights is 'pissa_niter_4'{UNLIKE_BASE}",
    ),
    'OLoRA': (_lora(init_lora_weights='olora'), f"init_lora_weights is 'olora'{UNLIKE_BASE}"),
    'CorDA': (
        VALID.settings(init_lora_weights='corda'),
        f"init_lora_weights is 'corda'{UNLIKE_BASE}",
    ),
    'LoftQ': (
        VALID.settings(init_lora_weights='loftq'),
        f"init_lora_weights is 'loftq'{UNLIKE_BASE}",
    ),
    'LoRA-GA': (
        VALID.settings(init_lora_weights='lora_ga'),
        f"init_lora_weights is 'lora_ga'{UNLIKE_BASE}",
    ),
    'KaSA': (
        VALID.settings(kasa_config={'beta': 1e-4}),
        "kasa_config is {'beta': 0.0001}, expected null",
    ),
    'LoHa': (
        _wrapped(peft.LoHaConfig, r=4, target_modules=['q_proj']),
        "peft_type is 'LOHA', expected 'LORA'",
    ),
    'LoKr': (
        _wrapped(peft.LoKrConfig, r=4, target_modules=['q_proj']),
        "peft_type is 'LOKR', expected 'LORA'",
    ),
    'AdaLoRA': (VALID.settings(peft_type='ADALORA'), "peft_type is 'ADALORA', expected 'LORA'"),
    'IA3': (
        _wrapped(peft.IA3Config, target_modules=['k_proj'], feedforward_modules=[]),
        "peft_type is 'IA3', expected 'LORA'",
    ),
    'VeRA': (
        _wrapped(peft.VeraConfig, r=4, target_modules=['q_proj']),
        "peft_type is 'VERA', expected 'LORA'",
    ),
    'prompt tuning': (
        _wrapped(peft.PromptTuningConfig, num_virtual_tokens=4),
        "peft_type is 'PROMPT_TUNING', expected 'LORA'",
    ),
    'prefix tuning': (
        VALID.settings(peft_type='PREFIX_TUNING'),
        "peft_type is 'PREFIX_TUNING', expected 'LORA'",
    ),
}
_UNEXPRESSED_WEIGHTS = {
    'trained biases': (
        _lora(bias='all', family='qwen2', target_modules=['o_proj']),
        'base_model.model.model.layers.0.self_attn.k_proj.bias is a trained bias, which a tree of '
        'factors cannot hold',
    ),
    'biases of the adapted projections': (
        _lora(bias='lora_only', family='qwen2'),
        f'base_model.model.{MODULE}.base_layer.bias is a trained bias, which a tree of factors '
        'cannot hold',
    ),
    'adapted embedding': (
        _lora(target_modules=['q_proj', 'embed_tokens']),
        'unknown tensor base_model.model.model.embed_tokens.base_layer.weight, expected LoRA '
        'factors of projections',
    ),
    'adapted head': (
        _lora(target_modules=['q_proj', 'lm_head']),
        'unknown tensor base_model.model.lm_head.base_layer.weight, expected LoRA factors of '
        'projections',
    ),
}
UNEXPRESSED = {
    **damages.of(CONFIG, _UNEXPRESSED_CONFIGS),
    **damages.of(WEIGHTS, _UNEXPRESSED_WEIGHTS),
    'pickle': (
        _pickled,
        '{d}/adapter_model.bin: pickle weights are never loaded, expected '
        'adapter_model.safetensors, which save_pretrained of peft writes',
    ),
}
_MALFORMED_CONFIGS = {
    'no config': (VALID.without(CONFIG), 'no such file'),
    'a config that is a link to itself': (_link_to_itself, 'too many levels of symbolic links'),
    'a config that is a pipe': (_pipe, 'is a pipe or a device, expected a file'),
    'config of something else': (
        VALID.text(CONFIG, '{"model_type": "llama", "hidden_size": 8}'),
        'has no peft_type, expected the adapter_config.json that peft saves; holds the fields '
        'model_type, hidden_size',
    ),
    'config without peft_type': (
        VALID.text(CONFIG, '{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}'),
        'has no peft_type, expected the adapter_config.json that peft saves; holds the fields r, '
        'lora_alpha, target_modules',
    ),
    'config without anything': (
        VALID.text(CONFIG, '{}'),
        'has no peft_type, expected the adapter_config.json that peft saves; holds no field',
    ),
    'nesting': (VALID.text(CONFIG, '{"peft_type": ' + '[' * 100_000), 'nested more than 64 deep'),
    'a rank of 5,000 digits': (
        VALID.text(CONFIG, '{"peft_type": "LORA", "r": ' + '9' * 5000 + '}'),
        'not valid JSON (an integer of 5000 digits, expected at most 300)',
    ),
    'half a surrogate pair': (
        VALID.text(CONFIG, '{"peft_type": "LORA", "revision": "\\ud800"}'),
        "half a surrogate pair in '\\\\ud800'",
    ),
    'a name twice': (
        VALID.text(CONFIG, '{"peft_type": "LORA", "r": 4, "r": 8}'),
        "not valid JSON ('r' occurs twice in one object)",
    ),
    'a base that is a list': (
        VALID.settings(base_model_name_or_path=['a/b']),
        "base_model_name_or_path is ['a/b'], expected a text",
    ),
    'rsLoRA as text': (
        VALID.settings(use_rslora='false'),
        "use_rslora is 'false', expected true or false",
    ),
    'rsLoRA as a number': (VALID.settings(use_rslora=1), 'use_rslora is 1, expected true or false'),
    'DoRA as text': (VALID.settings(use_dora='false'), "use_dora is 'false', expected false"),
    'rank as true': (VALID.settings(r=True), 'r is true, expected an integer from 1 to 2147483647'),
    'dropout as text': (
        VALID.settings(lora_dropout='0.1'),
        "lora_dropout is '0.1', expected a number from 0 to 1",
    ),
    'alpha of 10**400': (
        VALID.text(CONFIG, '{"peft_type": "LORA", "r": 4, "lora_alpha": 1' + '0' * 400 + '}'),
        'not valid JSON (an integer of 401 digits, expected at most 300)',
    ),
    'alpha of 1e400': (
        VALID.text(CONFIG, '{"peft_type": "LORA", "r": 4, "lora_alpha": 1e400}'),
        'not valid JSON (1e400 exceeds float64)',
    ),
    'alpha Infinity': (
        VALID.text(CONFIG, '{"peft_type": "LORA", "r": 4, "lora_alpha": Infinity}'),
        'not valid JSON (Infinity is no number of JSON)',
    ),
    'a pattern that is too deep': (
        VALID.settings(target_modules='(' * 5000 + ')' * 5000),
        "target_modules: '((((((((((((((((((((((((((((((((((((((((((((((((((((((((... is no "
        'regular expression (nested too deep)',
    ),
    'a pattern of exponential time': (
        VALID.settings(target_modules='(.|..|[a-z._0-9]+)*[A-Z]'),
        "target_modules: the expression '(.|..|[a-z._0-9]+)*[A-Z]' takes more than 1 s on "
        f'{MODULE}',
    ),
    'a pattern that repeats too often': (
        VALID.settings(alpha_pattern={'a{99999999999999999999}': 1}),
        "alpha_pattern: 'a{99999999999999999999}' is no regular expression (the repetition number "
        'is too large)',
    ),
    'a pattern that is none within what peft makes of it': (
        VALID.settings(rank_pattern={'(?i)q_proj': 4}),
        "rank_pattern: '(?i)q_proj' is no regular expression (global flags not at the start of "
        'the expression at position 8)',
    ),
    'config is no JSON': (
        VALID.text(CONFIG, '{"r": 4,'),
        'not valid JSON (Expecting property name enclosed in double quotes, column 9)',
    ),
    'config is a list': (VALID.text(CONFIG, '[]'), 'holds [], expected an object'),
    'no rank': (VALID.settings(r=None), 'lacks r, expected an integer from 1 to 2147483647'),
    'rank 0': (VALID.settings(r=0), 'r is 0, expected an integer from 1 to 2147483647'),
    'rank 4.5': (VALID.settings(r=4.5), 'r is 4.5, expected an integer from 1 to 2147483647'),
    'alpha is text': (
        VALID.settings(lora_alpha='16'),
        "lora_alpha is '16', expected a positive number",
    ),
    'alpha 0': (VALID.settings(lora_alpha=0), 'lora_alpha is 0, expected a positive number'),
    'rank pattern of text': (
        VALID.settings(rank_pattern={'q_proj': '8'}),
        "rank_pattern is {'q_proj': '8'}, expected an object, each value an integer from 1 to "
        '2147483647',
    ),
    'pattern is no expression': (
        VALID.settings(alpha_pattern={'q_(proj': 8}),
        "alpha_pattern: 'q_(proj' is no regular expression (missing ), unterminated subpattern at "
        'position 2)',
    ),
    'layers_to_transform of text': (
        VALID.settings(layers_to_transform=['0']),
        "layers_to_transform is ['0'], expected an integer from 0 to 2147483647 or a list, each "
        'element an integer from 0 to 2147483647',
    ),
    'targets are no names': (
        VALID.settings(target_modules=7),
        'target_modules is 7, expected names or a regular expression',
    ),
    'expression and layers': (
        VALID.settings(target_modules='.*q_proj', layers_to_transform=[0]),
        'layers_to_transform is [0] with a regular expression as target_modules, expected null',
    ),
    'exclusion of a number': (
        VALID.settings(exclude_modules=3),
        'exclude_modules is 3, expected names or a regular expression',
    ),
    'pattern of layers is no expression': (
        VALID.settings(layers_pattern=['(']),
        "layers_pattern: '(' is no regular expression (missing ), unterminated subpattern at "
        'position 0)',
    ),
}
_MALFORMED_WEIGHTS = {
    'no weights': (VALID.without(WEIGHTS), 'no such file'),
    'weights that the sums list and that are lost': (
        VALID.without(WEIGHTS, with_sums=True),
        'no such file',
    ),
    'an integer alpha of 300 digits': (
        VALID.settings(lora_alpha=10**299),
        'base_model.model.model.layers.0.mlp.down_proj.lora_B.weight times its scale 2.5e+298 '
        'exceeds float32',
    ),
    'a layer beyond any model': (
        VALID.tensors(
            lambda t: t.update(
                {
                    TENSOR.replace('.0.', '.999999999.'): t.pop(TENSOR),
                    TENSOR.replace('.0.', '.999999999.').replace('_A', '_B'): t.pop(
                        TENSOR.replace('_A', '_B')
                    ),
                }
            )
        ),
        'has layer 999999999, expected fewer than 1024',
    ),
    'rank 5': (
        VALID.settings(r=5),
        'model.layers.0.mlp.down_proj has factors (4, 80) and (48, 4), adapter_config.json says '
        'rank 5',
    ),
    'alpha too large': (
        VALID.settings(lora_alpha=1e300),
        'base_model.model.model.layers.0.mlp.down_proj.lora_B.weight times its scale 2.5e+299 '
        'exceeds float32',
    ),
    'fewer targets than factors': (
        VALID.settings(target_modules=['q_proj']),
        'has factors of model.layers.0.mlp.down_proj, which adapter_config.json does not adapt',
    ),
    'truncated': (
        VALID.bytes(lambda data: data[:-100]),
        'truncated, corrupt or not safetensors (38892 bytes)',
    ),
    'empty file': (
        VALID.bytes(lambda data: b''),
        'truncated, corrupt or not safetensors (0 bytes)',
    ),
    'a bit of the data flipped': (
        VALID.bytes(damages.flip(-1000), with_sums=True),
        'corrupt: its SHA-256 is 50c3c03c667b659d..., SHA256SUMS says adf5c09aefd9d101... (remove '
        'SHA256SUMS if you changed the file yourself)',
    ),
    'a bit of the header flipped': (
        VALID.bytes(damages.flip(8)),
        'truncated, corrupt or not safetensors (38992 bytes)',
    ),
    'a bit of the header length flipped': (
        VALID.bytes(damages.flip(1)),
        'truncated, corrupt or not safetensors (38992 bytes)',
    ),
    'a flip that makes NaN': (_foreign_nan, f'{TENSOR} holds NaN or infinity'),
    'a name twice in the header': (
        VALID.bytes(damages.name_twice(TENSOR)),
        f"header: not valid JSON ('{TENSOR}' occurs twice in one object)",
    ),
    'a factor under two names': (
        VALID.tensors(
            lambda t: t.update({TENSOR.replace('.weight', '.default.weight'): t[TENSOR]})
        ),
        f'{TENSOR} and base_model.model.{MODULE}.lora_A.default.weight are the same factor',
    ),
    'wrong dtype': (
        VALID.tensors(lambda t: t.update({TENSOR: t[TENSOR].astype(np.int32)})),
        f'{TENSOR} is int32, expected a float',
    ),
    'wrong rank of one factor': (
        VALID.tensors(lambda t: t.update({TENSOR: t[TENSOR][:2]})),
        f'{MODULE} has factors (2, 48) and (48, 4), adapter_config.json says rank 4',
    ),
    'not a matrix': (
        VALID.tensors(lambda t: t.update({TENSOR: t[TENSOR][0]})),
        f'{TENSOR} has shape (48,), expected a matrix',
    ),
    'a width unlike other layers': (
        VALID.tensors(lambda t: t.update({TENSOR.replace('.0.', '.1.'): t[TENSOR][:, :40]})),
        'model.layers.1.self_attn.q_proj has widths (in, out) (40, 48), the model has (48, 48)',
    ),
    'a missing factor': (
        VALID.tensors(lambda t: t.pop(TENSOR)),
        f'lacks tensor {MODULE}.lora_A.weight',
    ),
    'a missing module': (
        VALID.tensors(lambda t: [t.pop(name) for name in list(t) if f'.{MODULE}.' in name]),
        f'lacks tensor {MODULE}.lora_A.weight',
    ),
    'a missing last layer': (
        VALID.tensors(lambda t: [t.pop(name) for name in list(t) if '.layers.2.' in name]),
        'adapts 2 layers, the model has 3; expected an adapter of it',
    ),
    'a layer too many': (
        VALID.tensors(
            lambda t: t.update(
                {n.replace('.2.', '.3.'): t[n] for n in list(t) if '.layers.2.' in n}
            )
        ),
        'has layer 3, the model has 3 layers',
    ),
    'a layer to transform that is not there': (
        VALID.settings(layers_to_transform=[0, 1, 2, 5]),
        'has no layer 5, which adapter_config.json says is adapted',
    ),
    'an unknown tensor': (
        VALID.tensors(lambda t: t.update(extra=t[TENSOR])),
        'unknown tensor extra, expected LoRA factors of projections',
    ),
    'no tensor at all': (VALID.tensors(lambda t: t.clear()), 'holds no LoRA tensors'),
    'widths of another base': (
        VALID.tensors(
            lambda t: t.update({n: v[:, :40] for n, v in t.items() if 'q_proj.lora_A' in n})
        ),
        f'{MODULE} has widths (in, out) (40, 48), the model has (48, 48)',
    ),
}
MALFORMED = {
    'no directory': (
        lambda path: None,
        '{d}: no such directory, expected an adapter in PEFT format',
    ),
    'a file in place of the directory': (
        _no_directory,
        '{d}: no such directory, expected an adapter in PEFT format',
    ),
    **damages.of(CONFIG, _MALFORMED_CONFIGS),
    **damages.of(WEIGHTS, _MALFORMED_WEIGHTS),
}
CASES = {**UNEXPRESSED, **MALFORMED}


def read(path):
    """Returns the line that reading an adapter ends in, `{d}` for its path."""
    try:
        lora.load_peft(path, num_layers=3, projections=PROJECTIONS)
    except InputError as error:
        return damages.line_of(error, path)
    return 'accepted'
