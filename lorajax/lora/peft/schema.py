"""`adapter_config.json`: read, checked, matched against module names, written."""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from absl import logging

from lorajax import io
from lorajax.errors import InputError
from lorajax.lora.config import LoraConfig
from lorajax.model_names import join_revision, split_revision

# Options that change what an adapter computes, or the base below it, and that the tree cannot
# express, with the values that leave it as it is.
_REFUSED: dict[str, tuple[Any, ...]] = {
    'peft_type': ('LORA',),
    'use_dora': (False, None),
    'bias': ('none', None),
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
# All other fields of peft 0.21's LoraConfig: read here, or without effect on a trained adapter.
_KNOWN = frozenset(
    [
        'task_type',
        'auto_mapping',
        'peft_version',
        'base_model_name_or_path',
        'revision',
        'inference_mode',
        'r',
        'target_modules',
        'exclude_modules',
        'lora_alpha',
        'lora_dropout',
        'use_rslora',
        'init_lora_weights',
        'layers_to_transform',
        'layers_pattern',
        'rank_pattern',
        'alpha_pattern',
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
# Initialisations that also change the base weights.
_BASE_CHANGING_INIT = re.compile(r'(pissa|olora|corda|loftq|lora_ga)', re.IGNORECASE)


def read(path: pathlib.Path) -> tuple[LoraConfig, dict[str, Any]]:
    """Reads adapter_config.json.

    Returns:
      The config, whose `targets` are left at their default, and the content of the file.

    Raises:
      InputError: naming file and field, for what is malformed or cannot be represented.
    """
    raw = io.read_json(path)
    if not isinstance(raw, dict):
        raise InputError(f'{path}: is a JSON {type(raw).__name__}, expected an object')
    for name, accepted in _REFUSED.items():
        if name in raw and raw[name] not in accepted:
            raise InputError(f'{path}: {name} is {raw[name]!r}, expected {accepted[0]!r}')
    unknown = [name for name in raw if raw[name] and name not in _KNOWN | _REFUSED.keys()]
    if unknown:
        logging.warning('%s: unknown field %s is ignored', path, ', '.join(unknown))
    init = raw.get('init_lora_weights')
    if isinstance(init, str) and _BASE_CHANGING_INIT.match(init):
        raise InputError(
            f'{path}: init_lora_weights is {init!r}, which changes the base weights, '
            'expected an adapter of the unchanged base'
        )
    if not _is_count(raw.get('r')):
        raise InputError(f'{path}: r is {raw.get("r")!r}, expected a positive integer')
    if not _is_positive(raw.get('lora_alpha')):
        raise InputError(
            f'{path}: lora_alpha is {raw.get("lora_alpha")!r}, expected a positive number'
        )
    layers = raw.get('layers_to_transform')
    layers = [layers] if isinstance(layers, int) else layers
    if layers and not (isinstance(layers, list) and all(type(n) is int and n >= 0 for n in layers)):
        raise InputError(f'{path}: layers_to_transform is {layers!r}, expected a list of layers')
    for name in ('target_modules', 'exclude_modules', 'layers_pattern'):
        _check_names(path, name, raw.get(name))
    if isinstance(raw.get('target_modules'), str) and layers:
        raise InputError(
            f'{path}: layers_to_transform is {layers!r} with a regular expression as '
            'target_modules, expected null'
        )
    config = LoraConfig(
        rank=raw['r'],
        alpha=raw['lora_alpha'],
        use_rslora=bool(raw.get('use_rslora')),
        rank_pattern=_pattern(path, raw, 'rank_pattern', _is_count, 'positive integers'),
        alpha_pattern=_pattern(path, raw, 'alpha_pattern', _is_positive, 'positive numbers'),
        layers=tuple(sorted(set(layers))) if layers else None,
        dropout=raw.get('lora_dropout') or 0.0,
        base_model=join_revision(raw.get('base_model_name_or_path'), raw.get('revision')),
    )
    return config, raw


def _is_count(value: Any) -> bool:
    """Says whether a value is an integer from 1 on."""
    return type(value) is int and value > 0


def _is_positive(value: Any) -> bool:
    """Says whether a value is a positive, finite number."""
    return type(value) in (int, float) and 0 < value < math.inf


def _are_names(value: Any) -> bool:
    """Says whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_names(path: pathlib.Path, field: str, value: Any) -> None:
    """Refuses what is neither absent nor names nor a regular expression."""
    if isinstance(value, str):
        _check_expression(path, field, value)
    elif value is not None and not _are_names(value):
        raise InputError(f'{path}: {field} is {value!r}, expected names or a regular expression')
    elif value and field == 'layers_pattern':
        for expression in value:
            _check_expression(path, field, expression)


def _check_expression(path: pathlib.Path, field: str, expression: str) -> None:
    """Refuses what is no regular expression."""
    try:
        re.compile(expression)
    except re.error as error:
        raise InputError(
            f'{path}: {field}: {expression!r} is no regular expression ({error})'
        ) from None


def _pattern(
    path: pathlib.Path, raw: Mapping[str, Any], field: str, is_valid: Any, expected: str
) -> dict[str, Any]:
    """Returns a field that maps expressions to numbers."""
    pattern = raw.get(field) or {}
    if not isinstance(pattern, dict) or not all(map(is_valid, pattern.values())):
        raise InputError(f'{path}: {field} is {pattern!r}, expected an object of {expected}')
    for expression in pattern:
        _check_expression(path, field, expression)
    return pattern


def is_targeted(raw: Mapping[str, Any], module: str) -> bool:
    """Says whether PEFT adapts a module, one of the seven projections of a layer.

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
    patterns = raw.get('layers_pattern') or []
    expressions = [
        rf'(?:^|.*?\.){pattern}\.(\d+)\.'
        for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    ] or [r'.*?\.[^.]*\.(\d+)\.']
    matches = [found for found in (re.match(e, module) for e in expressions) if found]
    return bool(matches) and int(matches[0][1]) in ([layers] if isinstance(layers, int) else layers)


def _is_named(names: Any, module: str) -> bool:
    """Says whether an expression matches a module, or a list holds its name or its end."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f'.{name}') for name in names)


def content(config: LoraConfig, base_model: str | None) -> dict[str, Any]:
    """Returns the content of adapter_config.json for an adapter of `config`.

    It holds every field that vLLM reads (r, lora_alpha, target_modules, bias, modules_to_save,
    use_rslora, use_dora); vLLM knows neither rank_pattern nor alpha_pattern and ignores them.
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
