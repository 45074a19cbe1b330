"""What `adapter_config.json` means: read, checked, matched against module names, written."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from absl import logging

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import fields
from lorajax.lora import expressions
from lorajax.lora.config import TARGETS, LoraConfig, module_name, pattern_expression
from lorajax.model_names import join_revision, split_revision

# Options that change what an adapter computes, or the base below it, and that the tree cannot
# express, with the values that leave it as it is.
_REFUSED: dict[str, tuple[Any, ...]] = {
    'use_dora': (False, None),
    # Biases of a base that has none are none; where there are some, they are in the weights' file.
    'bias': ('none', None, 'lora_only', 'all'),
    'lora_bias': (False, None),
    'modules_to_save': (None, []),
    'fan_in_fan_out': (False, None),
    'layer_replication': (None, []),
    'trainable_token_indices': (None, [], {}),
    'target_parameters': (None, []),
    'alora_invocation_tokens': (None, []),
    'use_qalora': (False, None),
    'use_bdlora': (None, False),
    'arrow_config': (None,),
    'kasa_config': (None,),
    'monteclora_config': (None,),
    'velora_config': (None,),
}
_NAMES = fields.Kind(
    'names or a regular expression', fields.either(fields.TEXT, fields.list_of(fields.TEXT)).fits
)
# The fields of peft 0.21's LoraConfig that say what a trained adapter is, each of its type.
_READ: dict[str, fields.Kind] = {
    'r': fields.COUNT,
    'lora_alpha': fields.POSITIVE,
    'lora_dropout': fields.FRACTION,
    'use_rslora': fields.BOOLEAN,
    'inference_mode': fields.BOOLEAN,
    'rank_pattern': fields.object_of(fields.COUNT),
    'alpha_pattern': fields.object_of(fields.POSITIVE),
    'target_modules': _NAMES,
    'exclude_modules': _NAMES,
    'layers_to_transform': fields.either(fields.INDEX, fields.list_of(fields.INDEX)),
    'layers_pattern': _NAMES,
    'init_lora_weights': fields.either(fields.BOOLEAN, fields.TEXT),
    'base_model_name_or_path': fields.TEXT,
    'revision': fields.TEXT,
    'task_type': fields.TEXT,
}
# Those without effect on a trained adapter, kept as they are.
_KEPT = frozenset(
    [
        'auto_mapping',
        'peft_version',
        'megatron_config',
        'megatron_core',
        'loftq_config',
        'eva_config',
        'corda_config',
        'lora_ga_config',
        'qalora_group_size',
        'runtime_config',
        'ensure_weight_tying',
    ]
)
KNOWN = frozenset({'peft_type'} | _REFUSED.keys() | _READ.keys() | _KEPT)
# Initialisations that also change the base weights.
_BASE_CHANGING_INIT = re.compile(r'(pissa|olora|corda|loftq|lora_ga)', re.IGNORECASE)


def read(path: pathlib.Path) -> tuple[LoraConfig, dict[str, Any]]:
    """Reads adapter_config.json.

    Returns:
      The config, whose `targets` are left at their default, and the content of the file.

    Raises:
      InputError: naming file and field, for what is malformed or cannot be represented.
    """
    raw = fields.require_object(path, io.read_json(path))
    _check_kind(path, raw)
    for name, accepted in _REFUSED.items():
        if not fields.one_of(*accepted).fits(raw.get(name)) and name in raw:
            expected = fields.show(accepted[0])
            raise InputError(f'{path}: {name} is {fields.show(raw[name])}, expected {expected}')
    unknown = [name for name in raw if raw[name] and name not in KNOWN]
    if unknown:
        logging.warning(
            '%s: unknown field %s is ignored', path, io.shorten(', '.join(unknown), 200)
        )
    for name, kind in _READ.items():
        if raw.get(name) is not None or name in ('r', 'lora_alpha'):
            fields.require(path, raw, name, kind)
    init = raw.get('init_lora_weights')
    if isinstance(init, str) and _BASE_CHANGING_INIT.match(init):
        raise InputError(
            f'{path}: init_lora_weights is {fields.show(init)}, which changes the base weights, '
            'expected an adapter of the unchanged base'
        )
    layers = raw.get('layers_to_transform')
    layers = [layers] if isinstance(layers, int) else layers
    if isinstance(raw.get('target_modules'), str) and layers:
        raise InputError(
            f'{path}: layers_to_transform is {fields.show(layers)} with a regular expression as '
            'target_modules, expected null'
        )
    _check_expressions(path, raw)
    config = LoraConfig(
        rank=raw['r'],
        alpha=raw['lora_alpha'],
        use_rslora=raw.get('use_rslora') or False,
        rank_pattern=raw.get('rank_pattern') or {},
        alpha_pattern=raw.get('alpha_pattern') or {},
        layers=tuple(sorted(set(layers))) if layers else None,
        dropout=raw.get('lora_dropout') or 0.0,
        base_model=join_revision(raw.get('base_model_name_or_path'), raw.get('revision')),
    )
    return config, raw


def _check_kind(path: pathlib.Path, raw: Mapping[str, Any]) -> None:
    """Refuses what is no config of peft, or of another method than LoRA."""
    if 'peft_type' not in raw:
        held = f'the fields {", ".join(raw)}' if raw else 'no field'
        raise InputError(
            f'{path}: has no peft_type, expected the adapter_config.json that peft saves; '
            f'holds {io.shorten(held, 100)}'
        )
    fields.require(path, raw, 'peft_type', fields.one_of('LORA'))


def _check_expressions(path: pathlib.Path, raw: Mapping[str, Any]) -> None:
    """Refuses what is no regular expression where one is meant, as it will be used."""
    for name in ('target_modules', 'exclude_modules'):
        if isinstance(raw.get(name), str):
            _check_expression(path, name, raw[name], raw[name])
    for pattern in _layer_patterns(raw):
        _check_expression(path, 'layers_pattern', pattern, _layer_expression(pattern))
    for name in ('rank_pattern', 'alpha_pattern'):
        for pattern in raw.get(name) or {}:
            _check_expression(path, name, pattern, pattern_expression(pattern))


def _check_expression(path: pathlib.Path, field: str, shown: str, expression: str) -> None:
    """Refuses what is no regular expression."""
    try:
        re.compile(shown)
        re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        reason = 'nested too deep' if isinstance(error, RecursionError) else str(error)
        raise InputError(
            f'{path}: {field}: {fields.show(shown)} is no regular expression ({io.shorten(reason)})'
        ) from None
    try:  # here, where the file is known
        for projection in TARGETS:
            expressions.match(expression, module_name(projection, 0), whole=True)
    except InputError as error:
        raise InputError(f'{path}: {field}: {error}') from None


def _layer_patterns(raw: Mapping[str, Any]) -> list[str]:
    """Returns what may stand before the number of a layer."""
    patterns = raw.get('layers_pattern') or []
    return [patterns] if isinstance(patterns, str) else patterns


def _layer_expression(pattern: str) -> str:
    """Returns the expression that finds the number of a layer, its last group."""
    return rf'(?:^|.*?\.){pattern}\.(\d+)\.'


def is_targeted(raw: Mapping[str, Any], module: str) -> bool:
    """Returns whether PEFT adapts a module, one of the seven projections of a layer.

    Args:
      raw: content of adapter_config.json, of which target_modules is set.
      module: its name in the base model, such as 'model.layers.0.self_attn.q_proj'.

    Source: `check_target_module_exists` of peft 0.21.
    """
    if _is_named(raw.get('exclude_modules') or [], module):
        return False
    targets = raw['target_modules']
    if isinstance(targets, str) and targets.lower() == 'all-linear':
        return True
    if not _is_named(targets, module):
        return False
    if isinstance(targets, str) or module in targets:
        return True
    layers = raw.get('layers_to_transform')
    if layers is None or layers == []:
        return True
    numbered = [_layer_expression(pattern) for pattern in _layer_patterns(raw)]
    for expression in numbered or [r'.*?\.[^.]*\.(\d+)\.']:
        match = expressions.match(expression, module)
        if match:
            return int(match.groups()[-1]) in ([layers] if isinstance(layers, int) else layers)
    return False


def _is_named(names: Any, module: str) -> bool:
    """Returns whether an expression matches a module, or a list holds its name or its end."""
    if isinstance(names, str):
        return expressions.match(names, module, whole=True) is not None
    return any(module == name or module.endswith(f'.{name}') for name in names)


def content(config: LoraConfig, base_model: str | None) -> dict[str, Any]:
    """Returns the content of adapter_config.json for an adapter of `config`.

    It holds every field that vLLM reads (r, lora_alpha, target_modules, bias, modules_to_save,
    use_rslora, use_dora, and since 0.33.0 at the latest the patterns).
    Fields that only newer releases of PEFT know are left out.
    """
    alpha = config.alpha
    name, revision = split_revision(base_model or config.base_model or '')
    return {
        'peft_type': 'LORA',
        'task_type': 'CAUSAL_LM',
        'base_model_name_or_path': name or None,
        'r': config.rank,
        'lora_alpha': int(alpha) if float(alpha).is_integer() else alpha,
        'lora_dropout': config.dropout,
        'target_modules': list(config.targets),
        'use_rslora': config.use_rslora,
        'rank_pattern': dict(config.rank_pattern),
        'alpha_pattern': dict(config.alpha_pattern),
        'layers_to_transform': None if config.layers is None else list(config.layers),
        'layers_pattern': None,
        'bias': 'none',
        'use_dora': False,
        'fan_in_fan_out': False,
        'init_lora_weights': True,
        'inference_mode': True,
        'modules_to_save': None,
        'revision': revision,
    }
