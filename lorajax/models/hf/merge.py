"""A base model with an adapter folded into its weights, written as a checkpoint of its own."""

import pathlib
import shutil
from collections.abc import Mapping

import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.lora import LoraConfig, delta_weight, load_peft
from lorajax.lora.peft import CONFIG_FILE
from lorajax.models import config as config_lib
from lorajax.models.hf import checkpoint, export
from lorajax.models.hf import names as hf_names

# Beside the weights: config, generation config, tokenizer, chat template, licence.
_COMPANIONS = ('*.json', '*.jinja', '*.model', '*.txt', 'tokenizer*', 'LICENSE*', 'NOTICE*')


def merge_and_save(
    base: io.PathLike,
    adapter: io.PathLike,
    output: io.PathLike,
    shard_bytes: int = export.SHARD_BYTES,
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
    stored = checkpoint.find_tensors(directory, config)
    lora_config, tree = load_peft(adapter, config.num_layers, config.projections)
    adapted = _adapted(stored, lora_config)
    # Also what the model does not need, such as buffers of old checkpoints.
    homes = {
        name: (shard, value)
        for shard in checkpoint.shards(directory)
        for name, value in tensor_files.map_tensors(shard).items()
    }

    def produce(name: str) -> np.ndarray:
        shard, weight = homes[name]
        if not checkpoint.is_finite(weight):
            raise InputError(f'{shard}: {name} holds NaN or infinity')
        if name not in adapted:
            return weight
        projection, layer = adapted[name]
        factors = {key: leaf[layer] for key, leaf in tree['layers'][projection].items()}
        merged = _add(weight, np.asarray(delta_weight(factors)))
        if not checkpoint.is_finite(merged):
            raise InputError(f'{adapter}: merged into {name} it exceeds {weight.dtype}')
        return merged

    specs = {
        name: tensor_files.Spec(value.dtype, value.shape) for name, (_, value) in homes.items()
    }
    with io.atomic_directory(output) as partial:
        export.write_tensors(partial, specs, produce, shard_bytes)
        for path in _companions(directory):
            shutil.copyfile(path, partial / path.name)
    return lora_config


def _adapted(
    stored: Mapping[hf_names.Target, checkpoint.StoredTensor], lora_config: LoraConfig
) -> dict[str, tuple[str, int]]:
    """Returns projection and layer of each weight that an adapter changes, by its file's name."""
    modules = lora_config.file.modules if lora_config.file else set()
    names = {}
    for (path, layer), tensor in stored.items():
        *_, module, leaf = path.split('/')
        if leaf == 'kernel' and layer is not None and (module, layer) in modules:
            names[tensor.name] = module, layer
    return names


def _add(weight: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Returns the sum in the weight's dtype, rounded once; what is too large becomes infinite."""
    wide = np.float64 if weight.dtype == np.float64 else np.float32
    with np.errstate(over='ignore'):
        return (weight.astype(wide) + delta).astype(weight.dtype)


def _companions(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of a model directory that are no weights."""
    paths = {path for pattern in _COMPANIONS for path in directory.glob(pattern) if path.is_file()}
    # transformers would apply an adapter that lies beside a model's weights.
    left_out = ('.index.json', CONFIG_FILE)
    return sorted(path for path in paths if not path.name.endswith(left_out))
