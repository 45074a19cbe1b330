"""Resumable training state; the only file that knows orbax."""

import contextlib
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from lorajax.errors import InputError

# How tensorstore, which writes the arrays, ends its account of an error of the system.
_SYSTEM_ERROR = re.compile(r"([A-Z][a-z ]+) \[os_error_code='\d+'\]")


def group_name(tasks: Iterable[str]) -> str:
    """Returns a directory name for adapters trained together.

    It depends on the tasks and their order, so a state is never restored into another group.
    """
    return hashlib.sha256(json.dumps(list(tasks)).encode()).hexdigest()[:12]


class TrainCheckpoints:
    """The newest state of one training, on disk.

    Orbax writes each step into a temporary directory and renames it, so a killed run finds
    the last whole state.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        """Keeps the newest state below `directory`."""
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
        self._directory = directory
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Saves a tree of arrays under a step; returns when its arrays may be reused.

        Raises:
          InputError: if it cannot be written, or the one before could not.
        """
        with self._named():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: Any) -> tuple[int, Any]:
        """Returns the newest step and state, or (0, like) if there is none.

        Args:
          like: a tree of arrays with the shapes, dtypes and shardings to restore.
        """
        step = self._manager.latest_step()
        if step is None:
            return 0, like
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return step, self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        """Waits for saves under way; raises `InputError` if one could not be written."""
        with self._named():
            self._manager.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turns the system's refusal to write, which comes in three shapes, into one line."""
        try:
            yield
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from None
        except (ValueError, RuntimeError) as error:
            reason = _SYSTEM_ERROR.search(str(error))
            if reason is None:
                raise
            raise self._refusal(reason[1]) from None

    def _refusal(self, reason: str) -> InputError:
        """Returns the line on a state that cannot be written."""
        return InputError(f'{self._directory}: cannot be written: {reason.lower()}')
