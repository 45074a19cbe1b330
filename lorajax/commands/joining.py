"""Several processes that are one run: who they are, and a parent for each that says how it ended.

JAX ends a process from within, without a word of ours, when it hears that another one died. So
each of them has a parent that does nothing but wait, hand signals on, and say what happened.
"""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from lorajax import processes
from lorajax.errors import ArgumentError
from lorajax.experiment.options import option

_CHILD = 'LORAJAX_CHILD'  # in the environment of a process that has such a parent
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of commands that several processes can do together."""

    coordinator_address: str = option(
        '',
        'host:port of the first of several processes that work as one; what of these three is not '
        'given is asked of Slurm, GKE or the TPU VM',
    )
    num_processes: int = option(
        0, 'processes that work as one; 0: as Slurm or GKE say, else one', minimum=0
    )
    process_id: int = option(-1, 'which of them this is, from 0 on', minimum=-1)


class Joint(NamedTuple):
    """What `processes.join` is called with; None is left to the environment."""

    coordinator_address: str | None
    num_processes: int | None
    process_id: int | None


def joint(flags: Flags, environment: Mapping[str, str], is_divided: bool = False) -> Joint | None:
    """Returns with whom this process works as one; None if it is alone.

    Args:
      flags: as given.
      environment: of the process.
      is_divided: whether it has a share of its own, of which the environment cannot know.

    Raises:
      ArgumentError: if the flags contradict each other.
    """
    given = Joint(
        flags.coordinator_address or None,
        flags.num_processes or None,
        flags.process_id if flags.process_id >= 0 else None,
    )
    is_given = given != (None, None, None)
    if is_given and is_divided:
        raise ArgumentError(
            'num_shards', None, 'is for processes that never talk; expected it or num_processes'
        )
    count = flags.num_processes or (0 if is_divided else _count(environment))
    if count < 2:
        if is_given and flags.num_processes != 1:
            raise ArgumentError('num_processes', None, 'is missing, and the environment has none')
        return None
    if flags.process_id >= count:
        raise ArgumentError('process_id', flags.process_id, f'expected 0 to {count - 1}')
    return given._replace(num_processes=given.num_processes and count)


def _count(environment: Mapping[str, str]) -> int:
    """Returns of how many processes Slurm's srun, or GKE on TPUs, says this is one."""
    if 'SLURM_STEP_NODELIST' in environment:
        return int(environment.get('SLURM_NTASKS', 1))
    # A process that has the chips of its host to itself says so with these bounds.
    if environment.get('TPU_PROCESS_BOUNDS', '') == '1,1,1':
        return 1
    return len(environment.get('TPU_WORKER_HOSTNAMES', '').split(','))


def is_child(environment: Mapping[str, str]) -> bool:
    """Returns whether this process has a parent of `supervise`."""
    return _CHILD in environment


def enter(together: Joint) -> None:
    """Joins the others, as a child of `supervise`."""
    processes.end_with_parent()
    logging.info('waiting for the other processes')
    processes.join(*together)


def supervise(arguments: Sequence[str]) -> int:
    """Runs the same command line in a child and returns the status for a scheduler.

    Args:
      arguments: of the command line.

    Returns:
      The child's status; `processes.LOST` if it ended because another process did, 128 + the
      number for a signal.
    """
    asked: list[int] = []
    child = subprocess.Popen(
        [sys.executable, '-m', 'lorajax.launch', *arguments],
        env={**os.environ, _CHILD: str(os.getpid())},
        start_new_session=True,  # a terminal's signal comes once, from here
    )

    def forward(number: int, frame: Any) -> None:
        del frame
        asked.append(number)
        child.send_signal(number)

    for number in _SIGNALS:
        signal.signal(number, forward)
    status = child.wait()
    if status not in (-signal.SIGABRT, processes.LOST):
        if status < 0:
            name = signal.Signals(-status).name
            print(f'lorajax: ended by {name}; the same command goes on from what is stored',
                  file=sys.stderr)  # fmt: skip
        return status if status >= 0 else 128 - status
    if asked:
        print(f'lorajax: ended by {signal.Signals(asked[0]).name}; the same command goes on from '
              'what is stored', file=sys.stderr)  # fmt: skip
        return 128 + asked[0]
    print('lorajax: another process of this run is gone or out of reach; started together again, '
          'the same command goes on from what is stored', file=sys.stderr)  # fmt: skip
    return processes.LOST
