"""What a decoder of the Qwen2 and Llama families looks like, read from `config.json`."""

import dataclasses
import pathlib
from typing import Any

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import fields


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

    family: str  # 'qwen2' or 'llama', HF's `model_type`
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
        norms = (2 * self.num_layers + 1) * self.embed_dim
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
_ACTIVATIONS = ('silu', 'swish')  # two names of one function
# Options that change the forward pass where they differ from what is implemented.
_FIXED = {
    'hidden_act': fields.one_of(*_ACTIVATIONS),
    'use_sliding_window': fields.one_of(False),
    'mlp_bias': fields.one_of(False),
    'partial_rotary_factor': fields.one_of(1, 1.0),
}
_FULL_LAYERS = fields.list_of(fields.one_of('full_attention'))


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
    family = fields.require(where, raw, 'model_type', fields.one_of('qwen2', 'llama'))
    if raw.get('quantization_config') is not None:
        raise InputError(
            f'{where}: quantization_config is {io.show(raw["quantization_config"])}, expected none'
        )
    for name, kind in _FIXED.items():
        fields.require(where, raw, name, kind, default=None)
    # Qwen2 has its three biases whatever this says; Llama with biases has another on o_proj.
    bias = fields.BOOLEAN if family == 'qwen2' else fields.one_of(False)
    fields.require(where, raw, 'attention_bias', bias, default=False)
    layer_types = fields.require(where, raw, 'layer_types', _FULL_LAYERS, default=None)

    def count(name: str, **default: int | None) -> Any:
        return fields.require(where, raw, name, fields.COUNT, **default)

    depth, width, heads = (
        count(name) for name in ('num_hidden_layers', 'hidden_size', 'num_attention_heads')
    )
    if layer_types is not None and len(layer_types) != depth:
        raise InputError(
            f'{where}: layer_types has {len(layer_types)} entries, expected num_hidden_layers, '
            f'{depth}'
        )
    kv_heads = count('num_key_value_heads', default=heads)
    if heads % kv_heads:
        raise InputError(
            f'{where}: num_attention_heads {heads} is not a multiple of num_key_value_heads '
            f'{kv_heads}'
        )
    head_dim = count('head_dim', default=width // heads)
    if not head_dim or head_dim % 2:
        raise InputError(f'{where}: head_dim is {head_dim}, expected a positive even number')
    theta, scaling = _rope(raw, where)
    return ModelConfig(
        family=family,
        vocab_size=count('vocab_size'),
        num_layers=depth,
        embed_dim=width,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_dim=count('intermediate_size'),
        norm_eps=fields.require(where, raw, 'rms_norm_eps', _NOT_NEGATIVE, default=1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        qkv_bias=family == 'qwen2',
        tie_embeddings=fields.require(
            where, raw, 'tie_word_embeddings', fields.BOOLEAN, default=False
        ),
        max_positions=count('max_position_embeddings', default=32768),
    )


def _rope(raw: dict[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """Reads RoPE base and scaling from the old (`rope_scaling`) or new (`rope_parameters`) keys.

    Where both are there the old key wins, and a length beside them wins over the one within, as
    in transformers (`RotaryEmbeddingConfigMixin`).
    """
    scaling, parameters = (
        fields.require(where, raw, name, fields.OBJECT, default={})
        for name in ('rope_scaling', 'rope_parameters')
    )
    rope = scaling or parameters
    # The base may stand in either place.
    place = rope if 'rope_theta' in rope else raw
    theta = float(fields.require(where, place, 'rope_theta', _POSITIVE, default=10000.0))
    kind_name = 'rope_type' if 'rope_type' in rope else 'type'
    kind = fields.require(
        where, rope, kind_name, fields.one_of('default', 'llama3'), default='default'
    )
    fields.require(
        where, rope, 'partial_rotary_factor', _FIXED['partial_rotary_factor'], default=None
    )
    if kind == 'default':
        return theta, None
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
    return theta, RopeScaling(**numbers, original_max_position_embeddings=original)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """Returns the `config.json` content that `from_hf` reads back to the same config."""
    rope: dict[str, Any] | None = None
    if config.rope_scaling:
        rope = {'rope_type': 'llama3', **dataclasses.asdict(config.rope_scaling)}
    return {
        'architectures': ['Qwen2ForCausalLM' if config.family == 'qwen2' else 'LlamaForCausalLM'],
        'model_type': config.family,
        'vocab_size': config.vocab_size,
        'num_hidden_layers': config.num_layers,
        'hidden_size': config.embed_dim,
        'num_attention_heads': config.num_heads,
        'num_key_value_heads': config.num_kv_heads,
        'head_dim': config.head_dim,
        'intermediate_size': config.mlp_dim,
        'hidden_act': 'silu',
        'rms_norm_eps': config.norm_eps,
        'rope_theta': config.rope_theta,
        'rope_scaling': rope,
        'tie_word_embeddings': config.tie_embeddings,
        'max_position_embeddings': config.max_positions,
        'torch_dtype': 'float32',
    }


def read(directory: io.PathLike) -> ModelConfig:
    """Reads `config.json` of a model directory in HF format."""
    path = pathlib.Path(directory) / 'config.json'
    return from_hf(io.read_json(path), str(path))
