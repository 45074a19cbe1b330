"""Accelerators that need not be here, named as `v5e-8` or `h100`, to compile for.

Their compilers are ordinary packages: libtpu for TPUs, jax-cuda12-plugin for NVIDIA GPUs. Neither
asks for a device to compile, only to run. BUILD.md says how to get them.
"""

import importlib.util
import os
import re
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from lorajax.errors import ArgumentError

_GIB = 2**30
_TAKEN = 0.75  # XLA_PYTHON_CLIENT_MEM_FRACTION
_GRIDS = {1: '1x1', 4: '2x2', 8: '2x4', 16: '4x4', 32: '4x8', 64: '8x8', 128: '8x16', 256: '16x16'}


class Tpu(NamedTuple):
    """A generation of TPU.

    Attributes:
      memory: bytes that a program may use on one chip, as the compiler has it.
      peak: operations a second in bfloat16.
    """

    memory: int
    peak: float


class Gpu(NamedTuple):
    """A model of GPU, in the words of XLA's description of a target.

    Attributes:
      name: as the driver says it.
      capability: of CUDA.
      cores: streaming multiprocessors.
      units: of float32 in each.
      threads: that a multiprocessor holds.
      shared: bytes of shared memory of a multiprocessor.
      cache: bytes of the L2 cache.
      clock: GHz.
      bandwidth: bytes a second of the memory.
      size: bytes of the device.
      peak: operations a second in bfloat16, of dense matrices.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    units: int
    threads: int
    shared: int
    cache: int
    clock: float
    bandwidth: float
    size: int
    peak: float

    @property
    def memory(self) -> int:
        """Bytes that a program may use: what JAX takes of a GPU unless it is told otherwise."""
        return int(_TAKEN * self.size)


# TPUs: what the compiler says when a program is too large, and Google's pages of each generation.
# GPUs: NVIDIA's data sheets, and the descriptions of openxla/xla in
# xla/backends/gpu/target_config/specs.
TPUS = {'v5e': Tpu(int(15.75 * _GIB), 197e12), 'v6e': Tpu(int(31.25 * _GIB), 918e12)}
GPUS = {
    'a100': Gpu(
        'NVIDIA A100-SXM4-80GB', (8, 0), 108, 64, 2048, 164 << 10, 40 << 20, 1.41, 2.039e12,
        85_100_068_864, 312e12,
    ),
    'h100': Gpu(
        'NVIDIA H100 80GB HBM3', (9, 0), 132, 128, 2048, 228 << 10, 50 << 20, 1.98, 3.352e12,
        84_942_979_072, 989e12,
    ),
    'h200': Gpu(
        'NVIDIA H200', (9, 0), 132, 128, 2048, 228 << 10, 50 << 20, 1.98, 4.8e12,
        150_754_820_096, 989e12,
    ),
    'rtx4090': Gpu(
        'NVIDIA GeForce RTX 4090', (8, 9), 128, 128, 1536, 100 << 10, 72 << 20, 2.52, 1.008e12,
        25_393_692_672, 165e12,
    ),
}  # fmt: skip
_RESERVED = 1024  # bytes of shared memory that a block cannot have
_DESCRIPTION = """
gpu_device_info {{
  name: "{name}" device_memory_size: {size} memory_bandwidth: {bandwidth:.0f}
  cuda_compute_capability {{ major: {major} minor: {minor} {features} }}
  core_count: {cores} fpus_per_core: {units} clock_rate_ghz: {clock} l2_cache_size: {cache}
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: {threads}
  shared_memory_per_core: {shared} shared_memory_per_block: 49152
  shared_memory_per_block_optin: {optin}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  driver_version: "13.0.0" runtime_version: "12.9.0" compile_time_toolkit_version: "12.9.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


def names() -> list[str]:
    """Returns the kinds of accelerators that can be compiled for."""
    return [*TPUS, *GPUS]


def look_up(name: str) -> Tpu | Gpu:
    """Returns the accelerator of a target, which needs no compiler.

    Raises:
      ArgumentError: if there is no such target.
    """
    kind, _ = _parse(name)
    return (TPUS | GPUS)[kind]


def devices(name: str) -> list[jax.Device]:
    """Returns devices that programs can be compiled for, and nothing else.

    Args:
      name: a kind, and how many if it is more than one: 'h100', 'v5e-8'.

    Raises:
      ArgumentError: if there is no such target, or its compiler is not installed.
    """
    kind, count = _parse(name)
    if kind in TPUS:
        # Else libtpu asks the network which TPU this machine is, and wants it for itself.
        os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
        os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
        os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
        if importlib.util.find_spec('libtpu') is None:
            raise ArgumentError('compile_for', name, 'needs the package libtpu')
        bounds: dict[str, Any] = {'chips_per_host_bounds': (1, 1, 1)} if count == 1 else {}
        found = topologies.get_topology_desc(f'{kind}:{_GRIDS[count]}', 'tpu', **bounds)
        return list(found.devices)
    try:
        found = topologies.get_topology_desc(
            '', 'cuda', target_config=_description(GPUS[kind]), topology=f'1x1x{count}'
        )
    except NotImplementedError as error:
        problem = 'needs the packages jax-cuda12-plugin and jax-cuda12-pjrt'
        raise ArgumentError('compile_for', name, problem) from error
    return list(found.devices)


def _parse(name: str) -> tuple[str, int]:
    """Returns the kind of a target and its number of devices."""
    match = re.fullmatch(r'(\w+)(?:-([1-9]\d*))?', name, re.ASCII)
    kind, count = (match[1], int(match[2] or 1)) if match else ('', 0)
    if (kind in GPUS and count > 0) or (kind in TPUS and count in _GRIDS):
        return kind, count
    counts = ', '.join(map(str, _GRIDS))
    raise ArgumentError(
        'compile_for', name,
        f'expected one of {", ".join(names())}, and how many, such as v5e-8; TPUs in {counts}',
    )  # fmt: skip


def _description(gpu: Gpu) -> str:
    """Returns a GPU in the text form of XLA's GpuTargetConfigProto."""
    major, minor = gpu.capability
    fields = gpu._asdict() | {
        'major': major, 'minor': minor, 'optin': gpu.shared - _RESERVED,
        'features': 'feature_extension: ACCELERATED_FEATURES' if major >= 9 else '',
    }  # fmt: skip
    return _DESCRIPTION.format(**fields)
