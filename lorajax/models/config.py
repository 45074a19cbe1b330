"""What a decoder of the Qwen2 and Llama families looks like, read from `config.json`."""

import dataclasses
import pathlib
from typing import Any

from lorajax import io
from lorajax.errors import InputError


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


_ROPE_FIELDS = tuple(field.name for field in dataclasses.fields(RopeScaling))
_COUNTS = [
    'vocab_size',
    'num_hidden_layers',
    'hidden_size',
    'num_attention_heads',
    'intermediate_size',
    'num_key_value_heads',
    'head_dim',
    'max_position_embeddings',
]


def _rope(raw: dict[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """Reads RoPE base and scaling from the old (`rope_scaling`) or new (`rope_parameters`) keys."""
    rope = raw.get('rope_parameters') or raw.get('rope_scaling') or {}
    if not isinstance(rope, dict):
        raise InputError(f'{where}: RoPE scaling is {rope!r}, expected an object')
    theta = rope.get('rope_theta', raw.get('rope_theta', 10000.0))
    numbers = {'rope_theta': theta} | {n: rope[n] for n in _ROPE_FIELDS if n in rope}
    for name, value in numbers.items():
        if type(value) not in (int, float) or not value > 0:
            raise InputError(f'{where}: {name} is {value!r}, expected a positive number')
    kind = rope.get('rope_type', rope.get('type', 'default'))
    if kind == 'default':
        return float(theta), None
    if kind != 'llama3':
        raise InputError(f"{where}: rope_type is {kind!r}, expected 'default' or 'llama3'")
    missing = [name for name in _ROPE_FIELDS if name not in rope]
    if missing:
        raise InputError(f'{where}: llama3 RoPE scaling lacks {", ".join(missing)}')
    return float(theta), RopeScaling(**{name: rope[name] for name in _ROPE_FIELDS})


def from_hf(raw: dict[str, Any], where: str = 'config.json') -> ModelConfig:
    """Builds a `ModelConfig` from the content of an HF `config.json`.

    Args:
      raw: the parsed file, in the style of transformers 4 or 5.
      where: the file's name, for errors.

    Returns:
      The config.

    Raises:
      InputError: for an unknown family, a missing field or an option that changes the
        forward pass and is not implemented (other activations, sliding windows, ...).
    """
    if not isinstance(raw, dict):
        raise InputError(f'{where}: is a JSON {type(raw).__name__}, expected an object')
    family = raw.get('model_type')
    if family not in ('qwen2', 'llama'):
        raise InputError(f"{where}: model_type is {family!r}, expected 'qwen2' or 'llama'")
    unsupported: dict[str, tuple[Any, ...]] = {
        'hidden_act': ('silu',),
        'use_sliding_window': (False,),
        'mlp_bias': (False,),
        'attention_bias': (family == 'qwen2', None),
        'quantization_config': (None,),
    }
    for name, accepted in unsupported.items():
        if name in raw and raw[name] not in accepted:
            raise InputError(f'{where}: {name} is {raw[name]!r}, expected {accepted[0]!r}')
    names = (
        'vocab_size num_hidden_layers hidden_size num_attention_heads intermediate_size '
        'rms_norm_eps'
    )
    missing = [name for name in names.split() if raw.get(name) is None]
    if missing:
        raise InputError(f'{where}: lacks {", ".join(missing)}')
    for name in _COUNTS:
        if raw.get(name) is not None and (type(raw[name]) is not int or raw[name] < 1):
            raise InputError(f'{where}: {name} is {raw[name]!r}, expected a positive integer')
    if type(raw['rms_norm_eps']) not in (int, float) or not raw['rms_norm_eps'] >= 0:
        raise InputError(
            f'{where}: rms_norm_eps is {raw["rms_norm_eps"]!r}, expected a number from 0 on'
        )
    heads = raw['num_attention_heads']
    theta, scaling = _rope(raw, where)
    config = ModelConfig(
        family=family,
        vocab_size=raw['vocab_size'],
        num_layers=raw['num_hidden_layers'],
        embed_dim=raw['hidden_size'],
        num_heads=heads,
        num_kv_heads=raw.get('num_key_value_heads') or heads,
        head_dim=raw.get('head_dim') or raw['hidden_size'] // heads,
        mlp_dim=raw['intermediate_size'],
        norm_eps=raw['rms_norm_eps'],
        rope_theta=theta,
        rope_scaling=scaling,
        qkv_bias=family == 'qwen2',
        tie_embeddings=raw.get('tie_word_embeddings', False),
        max_positions=raw.get('max_position_embeddings', 32768),
    )
    if config.num_heads % config.num_kv_heads:
        raise InputError(
            f'{where}: num_attention_heads {config.num_heads} is not a multiple of '
            f'num_key_value_heads {config.num_kv_heads}'
        )
    return config


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
