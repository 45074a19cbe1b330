"""Tasks: the table, rows to examples, the draw, chat formats, batches, scoring."""

from lorajax.tasks.task import PROTOCOLS, Example, Pools, Task, TaskData

__all__ = ['PROTOCOLS', 'Example', 'Pools', 'Task', 'TaskData']
