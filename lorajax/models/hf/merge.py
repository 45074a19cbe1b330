"""A base model with an adapter folded into its weights, written as a checkpoint of its own."""

import pathlib
import shutil

import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.lora import LoraConfig, load_peft
from lorajax.lora.peft.files import CONFIG_FILE, delta_weight
from lorajax.models import config as config_lib
from lorajax.models.config import ModelConfig
from lorajax.models.hf import checkpoint
from lorajax.models.hf import names as hf_names

# Beside the weights: config, generation config, tokenizer, chat template, licence.
_COMPANIONS = ('*.json', '*.jinja', '*.model', '*.txt', 'tokenizer*', 'LICENSE*', 'NOTICE*')


def merge_and_save(
    base: io.PathLike,
    adapter: io.PathLike,
    output: io.PathLike,
    shard_bytes: int = checkpoint.SHARD_BYTES,
) -> LoraConfig:
    """Writes what peft's `merge_and_unload` and `save_pretrained` would write.

    Each adapted weight becomes weight + delta, summed in float32 and rounded once to its own dtype;
    all other tensors keep their bits. One tensor is in memory at a time, beside the adapter.

    Args:
      base: model directory in HF format.
      adapter: directory in PEFT format.
      output: made as a whole; replaced if it exists.
      shard_bytes: size from which a new shard is begun, bytes.

    Returns:
      The adapter's config.

    Raises:
      InputError: naming file and tensor, for a damaged base or adapter, an adapter of other widths
        or depth, or a sum that the weight's dtype cannot hold. Nothing is written then.
    """
    directory, output = pathlib.Path(base), pathlib.Path(output)
    config = config_lib.read(directory)
    checkpoint.check_tensors(directory, config)
    lora_config, tree = load_peft(adapter, config.num_layers, config.projections)
    home: dict[str, tuple[pathlib.Path, tensor_files.Entry]] = {}
    for shard in checkpoint.shards(directory):
        header = tensor_files.read_header(shard)
        for name in sorted(header, key=lambda name: header[name].start):
            home[name] = shard, header[name]
    adapted = _adapted(config, lora_config)

    def produce(name: str) -> np.ndarray:
        shard, entry = home[name]
        weight = tensor_files.read_entry(shard, entry)
        if not checkpoint.is_finite(weight):
            raise InputError(f'{shard}: {name} holds NaN or infinity')
        if name not in adapted:
            return weight
        merged = _add(weight, delta_weight(lora_config, tree, *adapted[name]))
        if not checkpoint.is_finite(merged):
            raise InputError(f'{adapter}: merged into {name} it exceeds {weight.dtype}')
        return merged

    specs = {name: tensor_files.Spec(entry.dtype, entry.shape) for name, (_, entry) in home.items()}
    with io.atomic_directory(output) as partial:
        checkpoint.write_tensors(partial, specs, produce, shard_bytes)
        for path in _companions(directory):
            shutil.copyfile(path, partial / path.name)
    return lora_config


def _adapted(config: ModelConfig, lora_config: LoraConfig) -> dict[str, tuple[str, int]]:
    """Returns projection and layer of each weight that an adapter changes, by HF name."""
    modules = {key[:2] for key in lora_config.file.names} if lora_config.file else set()
    found = {}
    for name, (path, layer, _) in hf_names.table(config).items():
        *_, module, leaf = path.split('/')
        if leaf == 'kernel' and layer is not None and (module, layer) in modules:
            found[name] = module, layer
    return found


def _add(weight: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Returns the sum in the weight's dtype, rounded once; what is too large becomes infinite."""
    wide = np.float64 if weight.dtype == np.float64 else np.float32
    with np.errstate(over='ignore'):
        return (weight.astype(wide) + delta).astype(weight.dtype)


def _companions(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of a model directory that are no weights."""
    found = {path for pattern in _COMPANIONS for path in directory.glob(pattern) if path.is_file()}
    # transformers would apply an adapter that lies beside a model's weights.
    left_out = ('.index.json', CONFIG_FILE)
    return sorted(path for path in found if not path.name.endswith(left_out))
