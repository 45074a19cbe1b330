"""Programs that run for less time than they take to compile.

On the CPU, LLVM's full optimisation is most of the price of a fit in a fresh process and gains
nothing: the work is in matrix products and LAPACK, which are libraries. A bilinear map of toy
size: 12.8 s to compile and 21 ms to run, at level 1 3.2 s and 15 ms; at 3B size 5.4 and 1.07 s,
2.9 and 1.12 s; networks of 196 tensors 2.4 and 0.84 s, 1.7 and 0.56 s (CPU time of one core).
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

_CPU_OPTIONS = {'xla_backend_optimization_level': 1}

_F = TypeVar('_F', bound=Callable[..., Any])


def quick_jit(**options: Any) -> Callable[[_F], _F]:
    """Returns a decorator: `jax.jit` at a low level of optimisation on the CPU.

    What it makes must not be called inside another jitted function, which JAX refuses.

    Args:
      **options: as for `jax.jit`.
    """

    def decorate(function: _F) -> _F:
        @functools.cache
        def compiled() -> Callable[..., Any]:  # asks for the backend at the first call only
            on_cpu = jax.default_backend() == 'cpu'
            return jax.jit(function, **options, compiler_options=_CPU_OPTIONS if on_cpu else None)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return compiled()(*args, **kwargs)

        return run  # type: ignore[return-value]

    return decorate
