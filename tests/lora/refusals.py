"""Adapters that must be refused, most of them written by peft, and the line for each.

A case is a function that makes an adapter at a path; `{d}` in its line is the path, and the
safetensors package's own words for a damaged header, which change between its releases, are left
out.
"""

import copy
import functools
import json
import os
import re
import tempfile

import numpy as np
import peft

from lorajax import lora
from lorajax.errors import InputError
from lorajax.io import tensor_files
from tests.models import reference

CONFIG, WEIGHTS, SUMS = 'adapter_config.json', 'adapter_model.safetensors', 'SHA256SUMS'
MODULE = 'model.layers.0.self_attn.q_proj'
TENSOR = f'base_model.model.{MODULE}.lora_A.weight'
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


def _settings(**changes):
    """Returns a case: fields of a valid config are changed, or taken out if None is given."""

    def make(path):
        write_valid(path)
        raw = {**json.loads((path / CONFIG).read_text()), **changes}
        (path / CONFIG).write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))

    return make


def _text(text):
    """Returns a case: the config is this text."""

    def make(path):
        write_valid(path)
        (path / CONFIG).write_text(text)

    return make


def _tensors(change):
    """Returns a case: the tensors of a valid file are changed."""

    def make(path):
        write_valid(path)
        tensors = tensor_files.read(path / WEIGHTS)
        change(tensors)
        tensor_files.write(path / WEIGHTS, tensors)

    return make


def _bytes(change, with_sums=False):
    """Returns a case: the bytes of a valid file are changed."""

    def make(path):
        write_valid(path, with_sums=with_sums)
        (path / WEIGHTS).write_bytes(change((path / WEIGHTS).read_bytes()))

    return make


def _flipped(position, bit=0, with_sums=False):
    """Returns bytes -> the same with one bit flipped; positions below 0 count from the end."""

    def change(data):
        return bytes(b ^ (1 << bit) if i == position % len(data) else b for i, b in enumerate(data))

    return _bytes(change, with_sums)


def _doubled(data):
    """Names a tensor twice in the header."""
    length = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + length])
    del header['__metadata__']
    text = json.dumps(header)[:-1] + f', "{TENSOR}": {json.dumps(header[TENSOR])}}}'
    return len(text).to_bytes(8, 'little') + text.encode() + data[8 + length :]


def _foreign_nan(path):
    """Sets the exponent bits of a number in a bfloat16 file."""
    from safetensors.numpy import load, save

    write_valid(path)
    tensors = {k: v.astype('bfloat16') for k, v in load((path / WEIGHTS).read_bytes()).items()}
    first = np.array(tensors[TENSOR])
    first.view(np.uint16)[0, 0] |= 0x7F80
    (path / WEIGHTS).write_bytes(save({**tensors, TENSOR: first}))


def _without(file):
    def make(path):
        write_valid(path)
        (path / file).unlink()

    return make


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


def _lost_with_sums(path):
    write_valid(path, with_sums=True)
    (path / WEIGHTS).unlink()


UNEXPRESSED = {
    'DoRA': (_lora(use_dora=True), '{d}/adapter_config.json: use_dora is true, expected false'),
    'trained biases': (
        _lora(bias='all', family='qwen2', target_modules=['o_proj']),
        '{d}/adapter_model.safetensors: base_model.model.model.layers.0.self_attn.k_proj.bias is '
        'a trained bias, which a tree of factors cannot hold',
    ),
    'biases of the adapted projections': (
        _lora(bias='lora_only', family='qwen2'),
        '{d}/adapter_model.safetensors: '
        'base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias is a trained bias, which '
        'a tree of factors cannot hold',
    ),
    'biases of another kind': (
        _settings(bias='some'),
        "{d}/adapter_config.json: bias is 'some', expected 'none'",
    ),
    'bias of lora_B': (
        _lora(lora_bias=True, target_modules=['q_proj']),
        '{d}/adapter_config.json: lora_bias is true, expected false',
    ),
    'a fully trained head': (
        _lora(modules_to_save=['lm_head']),
        "{d}/adapter_config.json: modules_to_save is ['lm_head'], expected null",
    ),
    'trained tokens': (
        _lora(trainable_token_indices=[5, 6]),
        '{d}/adapter_config.json: trainable_token_indices is [5, 6], expected null',
    ),
    'adapted parameters': (
        _lora(target_parameters=['mlp.gate_proj.weight']),
        "{d}/adapter_config.json: target_parameters is ['mlp.gate_proj.weight'], expected null",
    ),
    'adapted embedding': (
        _lora(target_modules=['q_proj', 'embed_tokens']),
        '{d}/adapter_model.safetensors: unknown tensor '
        'base_model.model.model.embed_tokens.base_layer.weight, expected LoRA factors of '
        'projections',
    ),
    'adapted head': (
        _lora(target_modules=['q_proj', 'lm_head']),
        '{d}/adapter_model.safetensors: unknown tensor '
        'base_model.model.lm_head.base_layer.weight, expected LoRA factors of '
        'projections',
    ),
    'repeated layers': (
        _settings(layer_replication=[[0, 2], [1, 3]]),
        '{d}/adapter_config.json: layer_replication is [[0, 2], [1, 3]], expected null',
    ),
    'activated LoRA': (
        _lora(alora_invocation_tokens=[5]),
        '{d}/adapter_config.json: alora_invocation_tokens is [5], expected null',
    ),
    'transposed weights': (
        _settings(fan_in_fan_out=True),
        '{d}/adapter_config.json: fan_in_fan_out is true, expected false',
    ),
    'PiSSA': (
        _lora(init_lora_weights='pissa'),
        "{d}/adapter_config.json: init_lora_weights is 'pissa', which changes the base "
        'weights, expected an adapter of the unchanged base',
    ),
    'fast PiSSA': (
        _lora(init_lora_weights='pissa_niter_4'),
        "{d}/adapter_config.json: init_lora_weights is 'pissa_niter_4', which changes "
        'the base weights, expected an adapter of the unchanged base',
    ),
    'OLoRA': (
        _lora(init_lora_weights='olora'),
        "{d}/adapter_config.json: init_lora_weights is 'olora', which changes the base "
        'weights, expected an adapter of the unchanged base',
    ),
    'CorDA': (
        _settings(init_lora_weights='corda'),
        "{d}/adapter_config.json: init_lora_weights is 'corda', which changes the base "
        'weights, expected an adapter of the unchanged base',
    ),
    'LoftQ': (
        _settings(init_lora_weights='loftq'),
        "{d}/adapter_config.json: init_lora_weights is 'loftq', which changes the base "
        'weights, expected an adapter of the unchanged base',
    ),
    'LoRA-GA': (
        _settings(init_lora_weights='lora_ga'),
        "{d}/adapter_config.json: init_lora_weights is 'lora_ga', which changes the base "
        'weights, expected an adapter of the unchanged base',
    ),
    'KaSA': (
        _settings(kasa_config={'beta': 1e-4}),
        "{d}/adapter_config.json: kasa_config is {'beta': 0.0001}, expected null",
    ),
    'LoHa': (
        _wrapped(peft.LoHaConfig, r=4, target_modules=['q_proj']),
        "{d}/adapter_config.json: peft_type is 'LOHA', expected 'LORA'",
    ),
    'LoKr': (
        _wrapped(peft.LoKrConfig, r=4, target_modules=['q_proj']),
        "{d}/adapter_config.json: peft_type is 'LOKR', expected 'LORA'",
    ),
    'AdaLoRA': (
        _settings(peft_type='ADALORA'),
        "{d}/adapter_config.json: peft_type is 'ADALORA', expected 'LORA'",
    ),
    'IA3': (
        _wrapped(peft.IA3Config, target_modules=['k_proj'], feedforward_modules=[]),
        "{d}/adapter_config.json: peft_type is 'IA3', expected 'LORA'",
    ),
    'VeRA': (
        _wrapped(peft.VeraConfig, r=4, target_modules=['q_proj']),
        "{d}/adapter_config.json: peft_type is 'VERA', expected 'LORA'",
    ),
    'prompt tuning': (
        _wrapped(peft.PromptTuningConfig, num_virtual_tokens=4),
        "{d}/adapter_config.json: peft_type is 'PROMPT_TUNING', expected 'LORA'",
    ),
    'prefix tuning': (
        _settings(peft_type='PREFIX_TUNING'),
        "{d}/adapter_config.json: peft_type is 'PREFIX_TUNING', expected 'LORA'",
    ),
    'pickle': (
        _pickled,
        '{d}/adapter_model.bin: pickle weights are never loaded, expected '
        'adapter_model.safetensors, which save_pretrained of peft writes',
    ),
}
MALFORMED = {
    'no directory': (
        lambda path: None,
        '{d}: no such directory, expected an adapter in PEFT format',
    ),
    'no config': (_without(CONFIG), '{d}/adapter_config.json: no such file'),
    'no weights': (_without(WEIGHTS), '{d}/adapter_model.safetensors: no such file'),
    'a file in place of the directory': (
        _no_directory,
        '{d}: no such directory, expected an adapter in PEFT format',
    ),
    'a config that is a link to itself': (
        _link_to_itself,
        '{d}/adapter_config.json: too many levels of symbolic links',
    ),
    'a config that is a pipe': (
        _pipe,
        '{d}/adapter_config.json: is a pipe or a device, expected a file',
    ),
    'weights that the sums list and that are lost': (
        _lost_with_sums,
        '{d}/adapter_model.safetensors: no such file',
    ),
    'config of something else': (
        _text('{"model_type": "llama", "hidden_size": 8}'),
        '{d}/adapter_config.json: has no peft_type, expected the adapter_config.json that peft '
        'saves; holds the fields model_type, hidden_size',
    ),
    'config without peft_type': (
        _text('{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}'),
        '{d}/adapter_config.json: has no peft_type, expected the adapter_config.json that peft '
        'saves; holds the fields r, lora_alpha, target_modules',
    ),
    'config without anything': (
        _text('{}'),
        '{d}/adapter_config.json: has no peft_type, expected the adapter_config.json that peft '
        'saves; holds no field',
    ),
    'nesting': (
        _text('{"peft_type": ' + '[' * 100_000),
        '{d}/adapter_config.json: nested more than 64 deep',
    ),
    'a rank of 5,000 digits': (
        _text('{"peft_type": "LORA", "r": ' + '9' * 5000 + '}'),
        '{d}/adapter_config.json: not valid JSON (an integer of 5000 digits, expected at most 300)',
    ),
    'half a surrogate pair': (
        _text('{"peft_type": "LORA", "revision": "\\ud800"}'),
        "{d}/adapter_config.json: half a surrogate pair in '\\\\ud800'",
    ),
    'a name twice': (
        _text('{"peft_type": "LORA", "r": 4, "r": 8}'),
        "{d}/adapter_config.json: not valid JSON ('r' occurs twice in one object)",
    ),
    'a base that is a list': (
        _settings(base_model_name_or_path=['a/b']),
        "{d}/adapter_config.json: base_model_name_or_path is ['a/b'], expected a text",
    ),
    'rsLoRA as text': (
        _settings(use_rslora='false'),
        "{d}/adapter_config.json: use_rslora is 'false', expected true or false",
    ),
    'rsLoRA as a number': (
        _settings(use_rslora=1),
        '{d}/adapter_config.json: use_rslora is 1, expected true or false',
    ),
    'DoRA as text': (
        _settings(use_dora='false'),
        "{d}/adapter_config.json: use_dora is 'false', expected false",
    ),
    'rank as true': (
        _settings(r=True),
        '{d}/adapter_config.json: r is true, expected an integer from 1 to 2147483647',
    ),
    'dropout as text': (
        _settings(lora_dropout='0.1'),
        "{d}/adapter_config.json: lora_dropout is '0.1', expected a number from 0 to 1",
    ),
    'alpha of 10**400': (
        _text('{"peft_type": "LORA", "r": 4, "lora_alpha": 1' + '0' * 400 + '}'),
        '{d}/adapter_config.json: not valid JSON (an integer of 401 digits, expected at most 300)',
    ),
    'alpha of 1e400': (
        _text('{"peft_type": "LORA", "r": 4, "lora_alpha": 1e400}'),
        '{d}/adapter_config.json: not valid JSON (1e400 exceeds float64)',
    ),
    'alpha Infinity': (
        _text('{"peft_type": "LORA", "r": 4, "lora_alpha": Infinity}'),
        '{d}/adapter_config.json: not valid JSON (Infinity is no number of JSON)',
    ),
    'an integer alpha of 300 digits': (
        _settings(lora_alpha=10**299),
        '{d}/adapter_model.safetensors: '
        'base_model.model.model.layers.0.mlp.down_proj.lora_B.weight times its scale '
        '2.5e+298 exceeds float32',
    ),
    'a pattern that is too deep': (
        _settings(target_modules='(' * 5000 + ')' * 5000),
        "{d}/adapter_config.json: target_modules: '" + '(' * 56 + '... is no regular expression '
        '(nested too deep)',
    ),
    'a pattern of exponential time': (
        _settings(target_modules='(.|..|[a-z._0-9]+)*[A-Z]'),
        "{d}/adapter_config.json: target_modules: the expression '(.|..|[a-z._0-9]+)*[A-Z]' takes "
        'more than 1 s on model.layers.0.self_attn.q_proj',
    ),
    'a pattern that repeats too often': (
        _settings(alpha_pattern={'a{99999999999999999999}': 1}),
        "{d}/adapter_config.json: alpha_pattern: 'a{99999999999999999999}' is no regular "
        'expression (the repetition number is too large)',
    ),
    'a pattern that is none within what peft makes of it': (
        _settings(rank_pattern={'(?i)q_proj': 4}),
        "{d}/adapter_config.json: rank_pattern: '(?i)q_proj' is no regular expression (global "
        'flags not at the start of the expression at position 8)',
    ),
    'a layer beyond any model': (
        _tensors(
            lambda t: t.update(
                {
                    TENSOR.replace('.0.', '.999999999.'): t.pop(TENSOR),
                    TENSOR.replace('.0.', '.999999999.').replace('_A', '_B'): t.pop(
                        TENSOR.replace('_A', '_B')
                    ),
                }
            )
        ),
        '{d}/adapter_model.safetensors: has layer 999999999, expected fewer than 1024',
    ),
    'config is no JSON': (
        _text('{"r": 4,'),
        '{d}/adapter_config.json: not valid JSON (Expecting property name enclosed in '
        'double quotes, column 9)',
    ),
    'config is a list': (
        _text('[]'),
        '{d}/adapter_config.json: holds [], expected an object',
    ),
    'no rank': (
        _settings(r=None),
        '{d}/adapter_config.json: lacks r, expected an integer from 1 to 2147483647',
    ),
    'rank 0': (
        _settings(r=0),
        '{d}/adapter_config.json: r is 0, expected an integer from 1 to 2147483647',
    ),
    'rank 4.5': (
        _settings(r=4.5),
        '{d}/adapter_config.json: r is 4.5, expected an integer from 1 to 2147483647',
    ),
    'rank 5': (
        _settings(r=5),
        '{d}/adapter_model.safetensors: model.layers.0.mlp.down_proj has factors (4, 80) '
        'and (48, 4), adapter_config.json says rank 5',
    ),
    'alpha is text': (
        _settings(lora_alpha='16'),
        "{d}/adapter_config.json: lora_alpha is '16', expected a positive number",
    ),
    'alpha 0': (
        _settings(lora_alpha=0),
        '{d}/adapter_config.json: lora_alpha is 0, expected a positive number',
    ),
    'alpha too large': (
        _settings(lora_alpha=1e300),
        '{d}/adapter_model.safetensors: '
        'base_model.model.model.layers.0.mlp.down_proj.lora_B.weight times its scale '
        '2.5e+299 exceeds float32',
    ),
    'rank pattern of text': (
        _settings(rank_pattern={'q_proj': '8'}),
        "{d}/adapter_config.json: rank_pattern is {'q_proj': '8'}, expected an object, each "
        'value an integer from 1 to 2147483647',
    ),
    'pattern is no expression': (
        _settings(alpha_pattern={'q_(proj': 8}),
        "{d}/adapter_config.json: alpha_pattern: 'q_(proj' is no regular expression "
        '(missing ), unterminated subpattern at position 2)',
    ),
    'layers_to_transform of text': (
        _settings(layers_to_transform=['0']),
        "{d}/adapter_config.json: layers_to_transform is ['0'], expected an integer from 0 to "
        '2147483647 or a list, each element an integer from 0 to 2147483647',
    ),
    'targets are no names': (
        _settings(target_modules=7),
        '{d}/adapter_config.json: target_modules is 7, expected names or a regular expression',
    ),
    'expression and layers': (
        _settings(target_modules='.*q_proj', layers_to_transform=[0]),
        '{d}/adapter_config.json: layers_to_transform is [0] with a regular expression '
        'as target_modules, expected null',
    ),
    'fewer targets than factors': (
        _settings(target_modules=['q_proj']),
        '{d}/adapter_model.safetensors: has factors of model.layers.0.mlp.down_proj, '
        'which adapter_config.json does not adapt',
    ),
    'truncated': (
        _bytes(lambda data: data[:-100]),
        '{d}/adapter_model.safetensors: truncated, corrupt or not safetensors (38892 bytes)',
    ),
    'empty file': (
        _bytes(lambda data: b''),
        '{d}/adapter_model.safetensors: truncated, corrupt or not safetensors (0 bytes)',
    ),
    'a bit of the data flipped': (
        _flipped(-1000, with_sums=True),
        '{d}/adapter_model.safetensors: corrupt: its SHA-256 is 50c3c03c667b659d..., SHA256SUMS '
        'says adf5c09aefd9d101... (remove SHA256SUMS if you changed the file yourself)',
    ),
    'a bit of the header flipped': (
        _flipped(8),
        '{d}/adapter_model.safetensors: truncated, corrupt or not safetensors (38992 bytes)',
    ),
    'a bit of the header length flipped': (
        _flipped(1),
        '{d}/adapter_model.safetensors: truncated, corrupt or not safetensors (38992 bytes)',
    ),
    'a flip that makes NaN': (
        _foreign_nan,
        '{d}/adapter_model.safetensors: '
        'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight holds NaN or '
        'infinity',
    ),
    'a name twice in the header': (
        _bytes(_doubled),
        '{d}/adapter_model.safetensors: header: not valid JSON '
        "('base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight' occurs twice in one "
        'object)',
    ),
    'a factor under two names': (
        _tensors(lambda t: t.update({TENSOR.replace('.weight', '.default.weight'): t[TENSOR]})),
        '{d}/adapter_model.safetensors: '
        'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight and '
        'base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight are the '
        'same factor',
    ),
    'wrong dtype': (
        _tensors(lambda t: t.update({TENSOR: t[TENSOR].astype(np.int32)})),
        '{d}/adapter_model.safetensors: '
        'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight is int32, '
        'expected a float',
    ),
    'wrong rank of one factor': (
        _tensors(lambda t: t.update({TENSOR: t[TENSOR][:2]})),
        '{d}/adapter_model.safetensors: model.layers.0.self_attn.q_proj has factors (2, '
        '48) and (48, 4), adapter_config.json says rank 4',
    ),
    'not a matrix': (
        _tensors(lambda t: t.update({TENSOR: t[TENSOR][0]})),
        '{d}/adapter_model.safetensors: '
        'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight has shape (48,), '
        'expected a matrix',
    ),
    'a width unlike other layers': (
        _tensors(lambda t: t.update({TENSOR.replace('.0.', '.1.'): t[TENSOR][:, :40]})),
        '{d}/adapter_model.safetensors: model.layers.1.self_attn.q_proj has widths (in, '
        'out) (40, 48), the model has (48, 48)',
    ),
    'a missing factor': (
        _tensors(lambda t: t.pop(TENSOR)),
        '{d}/adapter_model.safetensors: lacks tensor model.layers.0.self_attn.q_proj.lora_A.weight',
    ),
    'a missing module': (
        _tensors(lambda t: [t.pop(name) for name in list(t) if f'.{MODULE}.' in name]),
        '{d}/adapter_model.safetensors: lacks tensor model.layers.0.self_attn.q_proj.lora_A.weight',
    ),
    'a missing last layer': (
        _tensors(lambda t: [t.pop(name) for name in list(t) if '.layers.2.' in name]),
        '{d}/adapter_model.safetensors: adapts 2 layers, the model has 3; expected an '
        'adapter of it',
    ),
    'a layer too many': (
        _tensors(
            lambda t: t.update(
                {n.replace('.2.', '.3.'): t[n] for n in list(t) if '.layers.2.' in n}
            )
        ),
        '{d}/adapter_model.safetensors: has layer 3, the model has 3 layers',
    ),
    'exclusion of a number': (
        _settings(exclude_modules=3),
        '{d}/adapter_config.json: exclude_modules is 3, expected names or a regular expression',
    ),
    'pattern of layers is no expression': (
        _settings(layers_pattern=['(']),
        "{d}/adapter_config.json: layers_pattern: '(' is no regular expression (missing ), "
        'unterminated subpattern at position 0)',
    ),
    'a layer to transform that is not there': (
        _settings(layers_to_transform=[0, 1, 2, 5]),
        '{d}/adapter_model.safetensors: has no layer 5, which adapter_config.json says is adapted',
    ),
    'an unknown tensor': (
        _tensors(lambda t: t.update(extra=t[TENSOR])),
        '{d}/adapter_model.safetensors: unknown tensor extra, expected LoRA factors of projections',
    ),
    'no tensor at all': (
        _tensors(lambda t: t.clear()),
        '{d}/adapter_model.safetensors: holds no LoRA tensors',
    ),
    'widths of another base': (
        _tensors(lambda t: t.update({n: v[:, :40] for n, v in t.items() if 'q_proj.lora_A' in n})),
        '{d}/adapter_model.safetensors: model.layers.0.self_attn.q_proj has widths (in, '
        'out) (40, 48), the model has (48, 48)',
    ),
}
CASES = {**UNEXPRESSED, **MALFORMED}


def read(path):
    """Returns the line that reading an adapter ends in, `{d}` for its path."""
    try:
        lora.load_peft(path, num_layers=3, projections=PROJECTIONS)
    except InputError as error:
        line = str(error).replace(str(path), '{d}')
        return re.sub(r'(corrupt or not safetensors): .* (\(\d+ bytes\))$', r'\1 \2', line)
    return 'accepted'
