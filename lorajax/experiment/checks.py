"""What can be checked before any work begins."""

from collections.abc import Sequence

import jax
from absl import logging

from lorajax import sharding
from lorajax.errors import ArgumentError
from lorajax.experiment import methods, models, tasks
from lorajax.experiment.config import Experiment
from lorajax.models import ModelConfig
from lorajax.models.hf import checkpoint
from lorajax.models.placement import param_shardings
from lorajax.sandbox import runner
from lorajax.tasks.task import Task


def check_names(experiment: Experiment) -> None:
    """Refuses unknown methods and tasks, such that are named twice, and held-outs among anchors.

    Raises:
      InputError: naming what is unknown, with the closest known one.
      ArgumentError: naming what stands twice.
    """
    for setting in ('anchors', 'heldouts', 'methods'):
        names = getattr(experiment, setting)
        for name in names:
            if names.count(name) > 1:
                raise ArgumentError(setting, name, 'stands there twice')
    for name in experiment.heldouts:
        if name in experiment.anchors:
            problem = 'is an anchor, too: no mapping may be fitted on what it is tried on'
            raise ArgumentError('heldouts', name, problem)
    methods.check(experiment)
    tasks.get_all(experiment.tasks, experiment.task_files)


def check_model(name: str, experiment: Experiment, side: str = 'source') -> None:
    """Reads a model's config, tokenizer and tensor headers, and fits it to the mesh.

    Raises:
      InputError: naming the file, or the axis that the mesh does not divide.
    """
    directory = models.resolve(name)
    config = models.read_config(name)
    checkpoint.find_tensors(directory, config)
    models.load_chat(name, experiment, side)
    check_mesh(experiment, config)


def check_mesh(experiment: Experiment, config: ModelConfig, is_here: bool = True) -> None:
    """Refuses a mesh that does not divide a model's axes, or whose devices are not here.

    Batches need no check: they are padded to what the mesh divides.

    Raises:
      ArgumentError: naming the mesh and the axis.
    """
    if is_here:
        param_shardings(sharding.make_mesh(experiment.mesh), config)
    else:
        param_shardings(sharding.plan_mesh(experiment.mesh, jax.device_count()), config)


def check_execution(chosen: Sequence[Task], allow_code_execution: bool) -> None:
    """Says before any work whether programs that a model writes will run.

    Raises:
      InputError: if they shall and this machine cannot confine them.
    """
    code = [task.name for task in chosen if task.scorer == 'code']
    if code and allow_code_execution:
        runner.protections()
    elif code:
        logging.warning(
            '%s: answers are judged by the span proxy; with allow_code_execution they run '
            'against their unit tests, in a sandbox',
            ', '.join(code),
        )
