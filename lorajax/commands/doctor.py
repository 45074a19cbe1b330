"""`doctor`: what this machine has, and what a run or a training needs of it."""

import dataclasses

from lorajax.commands.command import Command
from lorajax.experiment import checks, memory, methods, models
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option, options_of


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `doctor`."""

    model: str = option(
        '', 'a model to train one adapter on, instead of the two of a run; named as source_model'
    )


def doctor(flags: Flags, experiment: Experiment) -> None:
    """Says what this machine has, and whether a flagfile will fit.

    Memory is estimated from shapes: nothing is loaded. With a model, what is measured is `train`
    on it, with the recipe of that command.

    Raises:
      InputError: if a model is not to be had, a name is unknown, or the mesh does not divide
        what it must.
    """
    if flags.model:
        names, adapters, variants = {'model': flags.model}, 1, 2
    else:
        checks.check_names(experiment)
        names = {'source': experiment.source_model, 'target': experiment.target_model}
        adapters, variants = len(experiment.tasks), len(methods.predicted(experiment)) + 2
    configs = {side: models.read_config(name) for side, name in names.items()}
    for config in configs.values():
        checks.check_mesh(experiment, config)
    lines = memory.describe_machine(experiment.mesh)
    for side, config in configs.items():
        training = memory.training_bytes(
            config,
            mesh=experiment.mesh,
            adapters=experiment.adapters_per_step or adapters,
            rank=experiment.lora_rank,
            targets=experiment.lora_targets,
            batch_size=experiment.batch_size,
            max_len=experiment.max_len,
            param_dtype=experiment.param_dtype,
            dtype=experiment.dtype,
            remat=experiment.remat,
        )
        decoding = memory.decoding_bytes(
            config,
            mesh=experiment.mesh,
            adapters=experiment.adapters_per_step or variants,
            rank=experiment.lora_rank,
            targets=experiment.lora_targets,
            batch_size=experiment.eval_batch_size,
            max_len=experiment.max_len,
            max_new_tokens=experiment.max_new_tokens or experiment.max_len,
            param_dtype=experiment.param_dtype,
            dtype=experiment.dtype,
        )
        lines += memory.describe_model(f'{side} {names[side]}', config, training, decoding)
    print('\n'.join(lines))


COMMAND = Command('doctor', doctor, Flags, reads=tuple(options_of(Experiment)), has_recipe='model')
