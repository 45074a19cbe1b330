"""What a decoder looks like, read from `config.json`; its family is a row of `families`."""

import dataclasses
import pathlib
from typing import Any

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import fields
from lorajax.models.families import FAMILIES, Family


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Frequency scaling of Llama 3.1 and later (`rope_type: llama3`) in its config's names."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int  # tokens


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and constants of one decoder; every field comes from the HF `config.json`."""

    family: str  # a key of `families.FAMILIES`, HF's `model_type`
    vocab_size: int
    num_layers: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    tie_embeddings: bool = False
    max_positions: int = 32768  # tokens
    qk_norm: bool = False  # RMS norm of each head's queries and keys, before RoPE
    norm_offset: bool = False  # norms scale by 1 + w, before they round
    output_norms: bool = False  # what attention and MLP return is normalised, too
    scale_embeddings: bool = False  # by the root of embed_dim
    mlp_activation: str = 'silu'  # or 'gelu_tanh'
    query_scalar: int | None = None  # scores are divided by its root; head_dim if None
    attention_softcap: float | None = None  # bounds scores by cap * tanh(score / cap)
    logit_softcap: float | None = None  # the same for logits
    sliding_window: int | None = None  # tokens that a layer with a window sees, itself included
    window_pattern: tuple[bool, ...] = ()  # which layers have it, repeated over the depth
    rope_factor: float = 1.0  # stretches positions (`rope_type: linear`), not in window layers
    local_rope_theta: float | None = None  # of layers with a window; rope_theta if None

    @property
    def score_scale(self) -> float:
        """What attention multiplies scores by."""
        return (self.query_scalar or self.head_dim) ** -0.5

    def has_window(self, layer: int) -> bool:
        """Returns whether a layer attends through the sliding window."""
        return bool(self.window_pattern) and self.window_pattern[layer % len(self.window_pattern)]

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Input and output width of each adaptable projection, in `lora.TARGETS` order."""
        width, heads = self.embed_dim, self.num_heads * self.head_dim
        kv_heads, mlp = self.num_kv_heads * self.head_dim, self.mlp_dim
        return {
            'q_proj': (width, heads),
            'k_proj': (width, kv_heads),
            'v_proj': (width, kv_heads),
            'o_proj': (heads, width),
            'gate_proj': (width, mlp),
            'up_proj': (width, mlp),
            'down_proj': (mlp, width),
        }

    @property
    def num_matmul_params(self) -> int:
        """Parameters that take part in a matrix product for each token (N of '4 N tokens')."""
        layer = sum(fan_in * fan_out for fan_in, fan_out in self.projections.values())
        return self.num_layers * layer + self.vocab_size * self.embed_dim

    @property
    def num_params(self) -> int:
        """All parameters."""
        per_layer = (4 if self.output_norms else 2) * self.embed_dim
        norms = self.num_layers * (per_layer + 2 * self.head_dim * self.qk_norm) + self.embed_dim
        heads = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        biases = self.num_layers * heads * self.qkv_bias
        untied = self.vocab_size * self.embed_dim * (not self.tie_embeddings)
        return self.num_matmul_params + norms + biases + untied


_ROPE_NUMBERS = ('factor', 'low_freq_factor', 'high_freq_factor')
_ORIGINAL = 'original_max_position_embeddings'
_LARGEST = 1e38  # these numbers are used in float32
_NOT_NEGATIVE = fields.Kind(
    'a number from 0 on', lambda value: fields.NUMBER.fits(value) and 0 <= value < _LARGEST
)
_POSITIVE = fields.Kind(
    'a positive number', lambda value: fields.NUMBER.fits(value) and 0 < value < _LARGEST
)
# Names of an activation in files: field, then the function's own names.
_ACTIVATIONS = {
    'silu': ('hidden_act', fields.one_of('silu', 'swish')),
    'gelu_tanh': ('hidden_activation', fields.one_of('gelu_pytorch_tanh')),
}
# Options that change the forward pass where they differ from what is implemented.
_FIXED = {
    'use_sliding_window': fields.one_of(False),
    'mlp_bias': fields.one_of(False),
    'partial_rotary_factor': fields.one_of(1, 1.0),
    'use_bidirectional_attention': fields.one_of(False),
}
_FULL, _SLIDING = 'full_attention', 'sliding_attention'
_LAYER_TYPES = fields.list_of(fields.one_of(_FULL, _SLIDING))
_PERIOD = fields.Kind('an integer from 1 to 1000', lambda v: type(v) is int and 0 < v <= 1000)


def from_hf(raw: dict[str, Any], where: str = 'config.json') -> ModelConfig:
    """Builds a `ModelConfig` from the content of an HF `config.json`.

    A field that is absent or null has the value that transformers 5 gives it.

    Args:
      raw: the parsed file, in the style of transformers 4 or 5.
      where: the file's name, for errors.

    Returns:
      The config.

    Raises:
      InputError: for an unknown family, a missing field, one of another type or range than it
        must be, or an option that changes the forward pass and is not implemented (other
        activations, sliding windows, ...).
    """
    raw = fields.require_object(where, raw)
    name = fields.require(where, raw, 'model_type', fields.one_of(*FAMILIES))
    family = FAMILIES[name]
    raw = {**family.defaults, **raw}
    if raw.get('quantization_config') is not None:
        raise InputError(
            f'{where}: quantization_config is {io.show(raw["quantization_config"])}, expected none'
        )
    for option, kind in _FIXED.items():
        fields.require(where, raw, option, kind, default=None)
    traits = {'mlp_activation': 'silu', 'qkv_bias': False, **family.traits}
    fields.require(where, raw, *_ACTIVATIONS[traits['mlp_activation']], default=None)
    # Qwen2 has its three biases whatever this says; others with biases have one on o_proj, too.
    bias = fields.BOOLEAN if traits['qkv_bias'] else fields.one_of(False)
    fields.require(where, raw, 'attention_bias', bias, default=False)

    def count(name: str, **default: int | None) -> Any:
        return fields.require(where, raw, name, fields.COUNT, **default)

    def number(name: str) -> float | None:
        found = fields.require(where, raw, name, _POSITIVE, default=None)
        return None if found is None else float(found)

    depth, width, heads = (
        count(name) for name in ('num_hidden_layers', 'hidden_size', 'num_attention_heads')
    )
    kv_heads = count('num_key_value_heads', default=heads)
    if heads % kv_heads:
        raise InputError(
            f'{where}: num_attention_heads {heads} is not a multiple of num_key_value_heads '
            f'{kv_heads}'
        )
    head_dim = count('head_dim', default=family.defaults.get('head_dim', width // heads))
    if not head_dim or head_dim % 2:
        raise InputError(f'{where}: head_dim is {head_dim}, expected a positive even number')
    if traits['mlp_activation'] == 'gelu_tanh':  # Gemma, whose scores have a scale of their own
        traits['query_scalar'] = count('query_pre_attn_scalar', default=256)
        traits['logit_softcap'] = number('final_logit_softcapping')
        # transformers reads it in Gemma 2 alone.
        cap = number('attn_logit_softcapping')
        if cap is not None and name != 'gemma2':
            raise InputError(f'{where}: attn_logit_softcapping is {cap}, expected null')
        traits['attention_softcap'] = cap
    window, pattern = _windows(raw, where, family, depth)
    return ModelConfig(
        family=name,
        vocab_size=count('vocab_size'),
        num_layers=depth,
        embed_dim=width,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_dim=count('intermediate_size'),
        norm_eps=fields.require(where, raw, 'rms_norm_eps', _NOT_NEGATIVE, default=1e-6),
        tie_embeddings=fields.require(
            where, raw, 'tie_word_embeddings', fields.BOOLEAN,
            default=family.defaults.get('tie_word_embeddings', False),
        ),
        max_positions=count('max_position_embeddings', default=32768),
        sliding_window=window,
        window_pattern=pattern,
        **_rope(raw, where, name),
        **traits,
    )  # fmt: skip


def _windows(
    raw: dict[str, Any], where: str, family: Family, depth: int
) -> tuple[int | None, tuple[bool, ...]]:
    """Reads the sliding window and which layers have it; (None, ()) if none has."""
    listed = fields.require(where, raw, 'layer_types', _LAYER_TYPES, default=None)
    if listed is not None and len(listed) != depth:
        raise InputError(
            f'{where}: layer_types has {len(listed)} entries, expected num_hidden_layers, {depth}'
        )
    window = None
    if family.window_pattern:
        window = fields.require(where, raw, 'sliding_window', fields.COUNT, default=None)
    pattern = family.window_pattern if window else ()
    if len(pattern) > 1:
        period = fields.require(where, raw, 'sliding_window_pattern', _PERIOD, default=len(pattern))
        if listed is None:
            pattern = tuple((i + 1) % period > 0 for i in range(min(period, depth)))
        else:
            pattern = tuple(kind == _SLIDING for kind in listed)
    elif listed is not None and set(listed) != {_SLIDING if pattern else _FULL}:
        expected = _SLIDING if pattern else _FULL
        raise InputError(
            f'{where}: layer_types are {" and ".join(sorted(set(listed)))}, expected {expected}'
        )
    if not any(pattern):
        return None, ()
    # The shortest pattern, so that a model has one config however its file says it.
    repeats = (n for n in range(1, len(pattern) + 1) if _repeats(pattern, n))
    return window, pattern[: next(repeats)]


def _repeats(pattern: tuple[bool, ...], period: int) -> bool:
    """Returns whether a pattern is its first entries over and over."""
    return pattern[period:] == pattern[: len(pattern) - period]


def _rope(raw: dict[str, Any], where: str, family: str) -> dict[str, Any]:
    """Reads the fields of `ModelConfig` on RoPE, in the style of transformers 4 or 5.

    Where both `rope_scaling` and `rope_parameters` are there the old key wins, and a length
    beside them wins over the one within, as in transformers (`RotaryEmbeddingConfigMixin`).
    Gemma 3 has parameters for each kind of layer, in the style of 4 as `rope_local_base_freq`.
    """
    scaling, parameters = (
        fields.require(where, raw, name, fields.OBJECT, default={})
        for name in ('rope_scaling', 'rope_parameters')
    )
    local = None
    if family == 'gemma3_text':
        inner, parameters = (
            fields.require(where, parameters, kind, fields.OBJECT, default={})
            for kind in (_SLIDING, _FULL)
        )
        fields.require(where, inner, 'rope_type', fields.one_of('default'), default='default')
        place = inner if 'rope_theta' in inner else raw
        name = 'rope_theta' if 'rope_theta' in inner else 'rope_local_base_freq'
        local = float(fields.require(where, place, name, _POSITIVE, default=10000.0))
    theta, linear, llama3 = _rope_of(raw, where, scaling or parameters)
    return {
        'rope_theta': theta,
        'rope_factor': linear,
        'rope_scaling': llama3,
        'local_rope_theta': local,
    }


def _rope_of(
    raw: dict[str, Any], where: str, rope: dict[str, Any]
) -> tuple[float, float, RopeScaling | None]:
    """Reads RoPE base, linear factor and llama3 scaling of one kind of layer."""
    # The base may stand in either place.
    place = rope if 'rope_theta' in rope else raw
    theta = float(fields.require(where, place, 'rope_theta', _POSITIVE, default=10000.0))
    kind_name = 'rope_type' if 'rope_type' in rope else 'type'
    kind = fields.require(
        where, rope, kind_name, fields.one_of('default', 'linear', 'llama3'), default='default'
    )
    fields.require(
        where, rope, 'partial_rotary_factor', _FIXED['partial_rotary_factor'], default=None
    )
    if kind == 'default':
        return theta, 1.0, None
    if kind == 'linear':
        return theta, float(fields.require(where, rope, 'factor', _POSITIVE)), None
    if raw.get(_ORIGINAL) is not None:
        rope = {**rope, _ORIGINAL: raw[_ORIGINAL]}
    missing = [name for name in (*_ROPE_NUMBERS, _ORIGINAL) if name not in rope]
    if missing:
        raise InputError(f'{where}: llama3 RoPE scaling lacks {", ".join(missing)}')
    numbers = {n: float(fields.require(where, rope, n, _POSITIVE)) for n in _ROPE_NUMBERS}
    if numbers['high_freq_factor'] <= numbers['low_freq_factor']:
        raise InputError(
            f'{where}: high_freq_factor is {numbers["high_freq_factor"]}, expected more than '
            f'low_freq_factor, {numbers["low_freq_factor"]}'
        )
    original = fields.require(where, rope, _ORIGINAL, fields.COUNT)
    return theta, 1.0, RopeScaling(**numbers, original_max_position_embeddings=original)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """Returns the `config.json` content that `from_hf` reads back to the same config."""
    rope: dict[str, Any] | None = None
    if config.rope_scaling:
        rope = {'rope_type': 'llama3', **dataclasses.asdict(config.rope_scaling)}
    elif config.rope_factor != 1:
        rope = {'rope_type': 'linear', 'factor': config.rope_factor}
    content = {
        'architectures': [FAMILIES[config.family].architecture],
        'model_type': config.family,
        'vocab_size': config.vocab_size,
        'num_hidden_layers': config.num_layers,
        'hidden_size': config.embed_dim,
        'num_attention_heads': config.num_heads,
        'num_key_value_heads': config.num_kv_heads,
        'head_dim': config.head_dim,
        'intermediate_size': config.mlp_dim,
        'rms_norm_eps': config.norm_eps,
        'rope_theta': config.rope_theta,
        'rope_scaling': rope,
        'tie_word_embeddings': config.tie_embeddings,
        'max_position_embeddings': config.max_positions,
        'torch_dtype': 'float32',
    }
    if config.mlp_activation == 'silu':
        content['hidden_act'] = 'silu'
    else:
        content['hidden_activation'] = 'gelu_pytorch_tanh'
        content['query_pre_attn_scalar'] = config.query_scalar
        content['attn_logit_softcapping'] = config.attention_softcap
        content['final_logit_softcapping'] = config.logit_softcap
    pattern = FAMILIES[config.family].window_pattern
    if pattern:
        content['sliding_window'] = config.sliding_window
    if len(pattern) > 1:
        content['layer_types'] = [
            _SLIDING if config.has_window(layer) else _FULL for layer in range(config.num_layers)
        ]
    if config.local_rope_theta:
        content['rope_local_base_freq'] = config.local_rope_theta
    return content


def read(directory: io.PathLike) -> ModelConfig:
    """Reads `config.json` of a model directory in HF format."""
    path = pathlib.Path(directory) / 'config.json'
    return from_hf(io.read_json(path), str(path))
