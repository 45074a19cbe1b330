"""Text of every anchor, for what looks at shared text: activations and distillation."""

from lorajax.experiment.config import Experiment
from lorajax.rng import generator
from lorajax.tasks import examples
from lorajax.tasks.task import Example


def interleaved(experiment: Experiment) -> list[Example]:
    """Returns the anchors' training rows: the first of each, the second of each, and so on.

    Rows of a task come in an order of their own, so that tasks with common prompts do not all
    begin with the same ones.
    """
    shuffled = []
    for task in experiment.anchors:
        rows = examples.read(experiment.files.train_data(task))
        order = generator(experiment.seed, 'shared rows', task).permutation(len(rows))
        shuffled.append([rows[i] for i in order])
    longest = max(map(len, shuffled))
    return [rows[i] for i in range(longest) for rows in shuffled if i < len(rows)]
