"""Loops over tensors, several at a time, one BLAS thread each.

The tensors of an adapter are independent, and most of the work on one is reading it and small
products and decompositions. Threads of BLAS share those badly, and where cores are busy they wait
for each other: a 256 x 8192 Gram matrix costs 7.6 ms of CPU with one thread, 200 ms with two on a
loaded machine of two cores; a 64 x 64 singular value decomposition 1.2 and 87 ms.
"""

import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import threadpoolctl

_In = TypeVar('_In')
_Out = TypeVar('_Out')


def over_tensors(function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Yields the function's values, in order; several threads work, one a core.

    Args:
      function: of numpy, which lets other threads run while it computes. It must not compile
        anything with JAX: threads that need the same program would each compile it.
      items: what it is called with.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()

    def quietly(item: _In) -> _Out:
        # NaN and infinity of an adapter are found in the products and named there.
        with np.errstate(invalid='ignore', over='ignore'):
            return function(item)

    with one_blas_thread(), concurrent.futures.ThreadPoolExecutor(cores) as pool:
        yield from pool.map(quietly, items)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Holds BLAS and LAPACK, numpy's and JAX's on the CPU, to one thread."""
    with _blas().limit(limits=1, user_api='blas'):
        yield


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    """Finds the libraries, which takes milliseconds."""
    return threadpoolctl.ThreadpoolController()
