"""Resumable training state; the only file that knows orbax."""

import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import orbax.checkpoint as ocp


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
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Saves a tree of arrays under a step; returns when its arrays may be reused."""
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
        """Waits for saves under way."""
        self._manager.close()
