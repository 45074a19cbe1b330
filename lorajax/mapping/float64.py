"""Small dense algebra in float64: on the host's CPU, compiled by JAX.

The problems are A x A, a few kB. Their eigenvalues span more orders of magnitude than float32
resolves, accelerators have no float64 or a slow one, and a copy to one would take longer than
the work.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

# These programs run for milliseconds: LLVM's optimisation costs more than it saves (choosing a
# penalty among 50 for 196 kernels of 16 anchors: 1.0 s to compile and 40 ms to run, against
# 0.6 s and 68 ms).
_COMPILER_OPTIONS = {'xla_backend_optimization_level': 0}


def on_host(
    function: Callable[..., Any] | None = None, *, static_argnames: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Compiles a function of arrays to run in float64 on the CPU; decorates modules' functions.

    Args:
      function: pure, of `jax.numpy`.
      static_argnames: as for `jax.jit`.

    Returns:
      A function that takes and returns trees of numpy arrays, compiled once for each shape.
    """
    if function is None:
        return functools.partial(on_host, static_argnames=static_argnames)
    compiled = jax.jit(
        function, static_argnames=static_argnames, compiler_options=_COMPILER_OPTIONS
    )

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with jax.enable_x64(True), jax.default_device(_cpu()):
            return jax.tree.map(np.asarray, compiled(*args, **kwargs))

    return run


@functools.cache
def _cpu() -> jax.Device:
    """Returns the host's CPU, which JAX always has beside accelerators."""
    return jax.local_devices(backend='cpu')[0]
