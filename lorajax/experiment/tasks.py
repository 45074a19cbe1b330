"""Names of tasks, as users write them, to tasks: those of real data and those of the toy world."""

from collections.abc import Iterable

from lorajax.tasks import registry
from lorajax.tasks.task import Task
from lorajax.toy import language


def get(name: str) -> Task:
    """Returns the task of a name.

    Raises:
      InputError: on an unknown name, with the closest known one.
    """
    return registry.get(name, registry.TASKS | language.TASKS)


def get_all(names: Iterable[str]) -> tuple[Task, ...]:
    """Returns the tasks of several names; raises as `get` does."""
    return tuple(get(name) for name in names)


def heldouts_beside(task: Task) -> tuple[Task, ...]:
    """Returns the held-out tasks of the world that a task is of, the real one or the toy's.

    No adapter may train on what these are evaluated on, in whichever run that happens.
    """
    table = language.TASKS if task.name in language.TASKS else registry.TASKS
    return tuple(other for other in table.values() if other.role == 'heldout')
