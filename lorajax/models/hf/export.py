"""Checkpoints in Hugging Face format, written."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lorajax import io
from lorajax.io import tensor_files
from lorajax.models import config as config_lib
from lorajax.models.config import ModelConfig
from lorajax.models.hf import names as hf_names
from lorajax.models.hf.checkpoint import INDEX, WEIGHTS, flatten
from lorajax.types import Params

SHARD_BYTES = 4_000_000_000


def save_params(
    directory: io.PathLike,
    config: ModelConfig,
    params: Params,
    dtype: DTypeLike | None = None,
    extra_config: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes `config.json` and safetensors shards that `transformers` loads.

    Args:
      directory: must exist; its other files are left alone.
      config: the model's config.
      params: base weights.
      dtype: dtype of the files; the stored one if None.
      extra_config: more fields for config.json, such as eos_token_id.
      shard_bytes: size from which a new shard is begun, bytes.
    """
    directory = pathlib.Path(directory)
    flat = flatten(params)
    targets, shapes = dict(hf_names.table(config)), hf_names.tensor_shapes(config)
    stored = np.dtype(dtype or flat[hf_names.EMBEDDING.path].dtype)

    def produce(name: str) -> np.ndarray:
        path, layer = targets[name]
        return np.asarray(flat[path] if layer is None else flat[path][layer]).astype(stored)

    specs = {name: tensor_files.Spec(stored, shapes[path]) for name, (path, _) in targets.items()}
    write_tensors(directory, specs, produce, shard_bytes)
    content = {**config_lib.to_hf(config), 'torch_dtype': str(stored), **(extra_config or {})}
    io.write_json(directory / 'config.json', content)


def write_tensors(
    directory: pathlib.Path,
    specs: Mapping[str, tensor_files.Spec],
    produce: Callable[[str], np.ndarray],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes the tensors of a checkpoint as one file, or as shards with an index.

    Args:
      directory: where to.
      specs: dtype and shape of each tensor, in the order in which shards are filled.
      produce: returns the tensor of a name; called once each.
      shard_bytes: size from which a new shard is begun, bytes.
    """
    groups: list[dict[str, tensor_files.Spec]] = [{}]
    size = total = 0
    for name, spec in specs.items():
        num_bytes = math.prod(spec.shape) * spec.dtype.itemsize
        if size and size + num_bytes > shard_bytes:
            groups.append({})
            size = 0
        groups[-1][name] = spec
        size, total = size + num_bytes, total + num_bytes
    files = [WEIGHTS]
    if len(groups) > 1:
        count = len(groups)
        files = [f'model-{i:05d}-of-{count:05d}.safetensors' for i in range(1, count + 1)]
    for file, group in zip(files, groups, strict=True):
        tensor_files.write_each(directory / file, group, produce)
    if len(groups) > 1:  # last, so that it never names what is not there
        weight_map = {
            name: file for file, group in zip(files, groups, strict=True) for name in group
        }
        index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
        io.write_json(directory / INDEX, index)
