"""Models out of files, or fresh ones: weights, module and mesh put together."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from lorajax import sharding
from lorajax.errors import ArgumentError
from lorajax.models import config as config_lib
from lorajax.models import kernels, quantized
from lorajax.models.config import ModelConfig
from lorajax.models.hf import checkpoint, hub
from lorajax.models.model import Model
from lorajax.models.placement import param_shardings
from lorajax.models.transformer import Transformer

DTYPES = ('float32', 'bfloat16', 'float16')  # of weights and of the computation


def load_model(
    path_or_id: str,
    param_dtype: DTypeLike = 'float32',
    dtype: DTypeLike = 'float32',
    mesh: Mesh | None = None,
    remat: str = 'none',
    revision: str | None = None,
    attention: str = kernels.AUTO,
    quantize: str = quantized.NONE,
) -> Model:
    """Loads a model in HF format.

    Args:
      path_or_id: a directory, a hub id, 'owner/name' or 'owner/name@revision', or a shipped
        model's name, such as 'toy-target'.
      param_dtype: dtype in which weights are stored: 'float32' or 'bfloat16'.
      dtype: dtype of the computation.
      mesh: from `sharding.make_mesh`; all devices on the fsdp axis if None.
      remat: what the backward pass keeps: 'none', 'dots' or 'full' (see `transformer`).
      revision: of the hub id, if it names none.
      attention: the kernel of training, 'auto' or one that the devices have (see `kernels`).
      quantize: 'int8' or 'int4' for projections of so many bits (see `quantized`), or 'none'.

    Returns:
      The model, its weights sharded over the mesh.

    Raises:
      InputError: naming file and tensor, for anything that does not fit.
      ArgumentError: for a dtype that is none of `DTYPES`, a mesh that does not divide the model, or
        a kernel that cannot be had.
    """
    for argument, value in (('param_dtype', param_dtype), ('dtype', dtype)):
        if value not in [jnp.dtype(name) for name in DTYPES]:
            raise ArgumentError(argument, value, f'expected one of {", ".join(DTYPES)}')
    directory = hub.resolve(str(path_or_id), revision)
    config = config_lib.read(directory)
    mesh = mesh or sharding.make_mesh((1, -1, 1))
    params = checkpoint.load_params(
        directory, config, jnp.dtype(param_dtype), param_shardings(mesh, config),
        functools.partial(_quantized, quantize) if quantize != quantized.NONE else None,
    )  # fmt: skip
    # The files decide, as they do in transformers.
    config = dataclasses.replace(config, tie_embeddings='lm_head' not in params)
    module = make_module(config, param_dtype, dtype, mesh, remat, attention)
    return Model(config, params, module, mesh, directory)


def make_module(
    config: ModelConfig,
    param_dtype: DTypeLike,
    dtype: DTypeLike,
    mesh: Mesh,
    remat: str = 'none',
    attention: str = kernels.AUTO,
) -> Transformer:
    """Returns the decoder for the devices of a mesh; arguments are those of `load_model`.

    Raises:
      ArgumentError: for a kernel that the devices do not have.
    """
    kernel = kernels.choose(mesh.devices.flat[0], config, jnp.dtype(dtype), attention)
    return Transformer(
        config, jnp.dtype(param_dtype), jnp.dtype(dtype), remat, kernel,
        mesh if kernel == kernels.SPLASH else None, mesh if mesh.size > 1 else None,
    )  # fmt: skip


def random_model(
    config: ModelConfig,
    key: jax.Array,
    param_dtype: DTypeLike = 'float32',
    dtype: DTypeLike = 'float32',
    mesh: Mesh | None = None,
) -> Model:
    """Returns a model with fresh weights: kernels scaled by fan-in, unit norms, no bias."""
    module = Transformer(config, jnp.dtype(param_dtype), jnp.dtype(dtype))
    tokens = jnp.zeros((1, 2), jnp.int32)
    params = jax.jit(module.init)(key, tokens, jnp.ones_like(tokens))['params']
    mesh = mesh or sharding.make_mesh((1, -1, 1))
    module = module.clone(mesh=mesh if mesh.size > 1 else None)
    return Model(config, params, module, mesh)


def _quantized(kind: str, path: str, leaf: jax.Array) -> dict[str, jax.Array]:
    """Returns what takes the place of a leaf of the base, by path."""
    if not quantized.is_quantized(path):
        return {path: leaf}
    parent = path.removesuffix('kernel')
    return {parent + name: new for name, new in quantized.quantize_kernel(leaf, kind).items()}
