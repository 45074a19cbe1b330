"""Several processes that work as one: what they agree on, send and gather.

JAX runs the same program in each of them, on arrays that lie on the devices of all. So all must
take the same decisions: what a decision rests on, such as which files are there, is looked up by
the first process and told to the others. The first process alone writes; all see its files, as the
work directory is on a file system that all machines share.

Everything here also works for a single process, where it costs nothing.
"""

import atexit
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from lorajax import progress
from lorajax.errors import ArgumentError, InputError

LOST = 75  # exit status when another process is gone: EX_TEMPFAIL of sysexits.h, "try again"

_PR_SET_PDEATHSIG = 1  # prctl(2)
_HEARTBEAT_SECONDS = 60  # without a sign of a process, until the others give up
_SHUTDOWN_SECONDS = 60  # that a process waits for the others at its end
# What runtime errors say when another process does not answer any more.
_SIGNS_OF_LOSS = ('Gloo', 'NCCL', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'coordination', 'Connection')

_T = TypeVar('_T')
_state = {'is_joined': False, 'is_end_agreed': False}


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_seconds: int = _HEARTBEAT_SECONDS,
) -> None:
    """Makes this process one of several; before anything else that concerns devices.

    Args:
      coordinator_address: host:port of the first process. What is None is asked of the
        environment by JAX: on TPU VMs, in GKE, and below Slurm's srun.
      num_processes: in all.
      process_id: which one this is, from 0 on.
      heartbeat_seconds: silence after which a process counts as dead.

    Raises:
      ArgumentError: for what is neither given nor known to the environment.
    """
    # JAX's own handler of SIGTERM would take the place of that of `lorajax.launch`.
    jax.config.update('jax_enable_preemption_service', False)
    is_complete = None not in (coordinator_address, num_processes, process_id)
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            cluster_detection_method='deactivate' if is_complete else None,
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (ValueError, TypeError) as error:
        raise ArgumentError('coordinator_address', coordinator_address, str(error)) from None
    _state['is_joined'] = True
    atexit.register(_leave_after_error)  # comes before JAX's own
    progress.meet_by(_most)
    if not is_first():
        logging.set_verbosity(logging.WARNING)  # the first process speaks for all


def end_with_parent() -> None:
    """Lets the kernel kill this process when its parent dies, where the kernel can."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def is_joined() -> bool:
    """Whether this process is one of several; asks no device."""
    return _state['is_joined'] and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not _state['is_joined'] or jax.process_index() == 0


def on_first(work: Callable[[], _T]) -> _T:
    """Returns what `work` returns in the first process; the others wait for it.

    Args:
      work: without collectives; returns what JSON can hold. An `InputError` of it is raised in
        all processes.
    """
    if not is_joined():
        return work()
    failure: InputError | None = None
    outcome: dict[str, Any] = {}
    if is_first():
        try:
            outcome = {'value': work()}
        except ArgumentError as error:
            failure = error
            outcome = {'argument': [error.argument, _shown(error.value), error.problem]}
        except InputError as error:
            failure, outcome = error, {'problem': str(error)}
    told = json.loads(_tell(json.dumps(outcome).encode()))
    if 'value' in told:
        return told['value']
    _state['is_end_agreed'] = True
    if failure:
        raise failure
    raise ArgumentError(*told['argument']) if 'argument' in told else InputError(told['problem'])


def from_first(tree: _T) -> _T:
    """Returns the host arrays of the first process; those of the others have the same shapes.

    What hosts compute for themselves may differ in the last bit. Where a training begins from it,
    the copies on the devices would stay different.
    """
    return multihost_utils.broadcast_one_to_all(tree) if is_joined() else tree


def place(tree: Any, where: jax.sharding.Sharding) -> Any:
    """Puts host arrays on devices; each process hands over the parts of its own devices alone.

    Args:
      tree: host arrays, equal in all processes.
      where: of all of them.
    """
    if where.is_fully_addressable:
        return jax.device_put(tree, where)

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, where, lambda index: array[index])

    return jax.tree.map(put, tree)


def to_host(tree: Any) -> Any:
    """Returns arrays as numpy arrays; what lies on the devices of others is gathered from them."""

    def read(array: Any) -> np.ndarray:
        if isinstance(array, jax.Array) and not (
            array.is_fully_addressable or array.is_fully_replicated
        ):
            return multihost_utils.process_allgather(array, tiled=True)
        return np.asarray(array)

    return jax.tree.map(read, tree)


def is_loss(error: BaseException) -> bool:
    """Returns whether an error says that another process is gone.

    JAX raises what the transport says as one of two kinds, by the place where it is heard.
    """
    return (
        _state['is_joined']
        and isinstance(error, jax.errors.JaxRuntimeError | ValueError)
        and any(sign in str(error) for sign in _SIGNS_OF_LOSS)
    )


def leave(status: int) -> None:
    """Ends a joined process at once, as the others would be waited for at an ordinary end.

    If all have agreed on the end they are waited for, so that each has the same status.
    """
    if not _state['is_joined']:
        return
    if _state['is_end_agreed']:
        jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _leave_after_error() -> None:
    """Ends a process that has just shown a traceback without waiting for the others."""
    if hasattr(sys, 'last_type'):
        leave(1)


def _shown(value: Any) -> Any:
    """Returns a value as JSON holds it."""
    return value if isinstance(value, str | int | float | None) else str(value)


def _tell(message: bytes) -> bytes:
    """Returns the first process's message in all processes."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    room = np.zeros(max(64, 1 << (length - 1).bit_length()), np.uint8)  # few shapes to compile
    if is_first():
        room[:length] = np.frombuffer(message, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(room)).tobytes()[:length]


def _most(number: int) -> int:
    """Returns the largest of the numbers that the processes give."""
    most = int(np.max(multihost_utils.process_allgather(np.int32(number))))
    if most:
        _state['is_end_agreed'] = True
    return most
