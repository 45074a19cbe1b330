"""Names of tasks, as users write them, to tasks.

There are those of real data, those of the toy world, those of story tellers, those of text worlds,
and those of task files.
"""

from collections.abc import Iterable, Mapping, Sequence

from lorajax.errors import InputError
from lorajax.stories import tasks as stories
from lorajax.tasks import registry, task_file
from lorajax.tasks.task import Task
from lorajax.text import tasks as text
from lorajax.toy import language

_BUILT_IN: dict[str, Task] = registry.TASKS | language.TASKS | stories.TASKS | text.TASKS


def known(files: Sequence[str] = ()) -> Mapping[str, Task]:
    """Returns all tasks that there are, by name.

    Args:
      files: task files, or directories of them.

    Raises:
      InputError: naming the file, if it is not as it should be, or names a task that is built in.
    """
    own = task_file.read_all(files)
    for name in own.keys() & _BUILT_IN.keys():
        raise InputError(f'{own[name].source}: {name!r} is a built-in task, expected another name')
    return _BUILT_IN | own if own else _BUILT_IN


def get(name: str, files: Sequence[str] = ()) -> Task:
    """Returns the task of a name.

    Raises:
      InputError: on an unknown name, with the closest known one; as `known`.
    """
    return registry.get(name, known(files))


def get_all(names: Iterable[str], files: Sequence[str] = ()) -> tuple[Task, ...]:
    """Returns the tasks of several names; raises as `get` does."""
    tasks = known(files)
    return tuple(registry.get(name, tasks) for name in names)


def heldouts_beside(task: Task, files: Sequence[str] = ()) -> tuple[Task, ...]:
    """Returns the tasks of a task's own world on which nothing may train.

    They are the held-outs of the real world or the toy's, and all tasks of the files; no adapter
    may train on what these are evaluated on, in whichever run that happens.
    """
    own = task_file.read_all(files)
    tables = (own, language.TASKS, stories.TASKS, text.TASKS, registry.TASKS)
    table = next((table for table in tables if task.name in table), own)
    return tuple(other for other in table.values() if table is own or other.role == 'heldout')
