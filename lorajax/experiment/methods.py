"""Which methods a run fits, trains and evaluates."""

from lorajax import mapping
from lorajax.errors import ArgumentError
from lorajax.evaluation.roles import REWEIGHTED, TRAINED_METHODS
from lorajax.experiment.config import FRESH, Experiment
from lorajax.types import JsonDict

# References of every run: what is reached without the source adapter's help, and the weighted sum
# of anchors that is nearest to the truth.
DIAGNOSTICS = ('placebo', 'span_oracle_tensor')


def check(experiment: Experiment) -> None:
    """Refuses unknown names of methods, and methods that a table cannot use.

    Raises:
      InputError: naming the unknown method.
      ArgumentError: naming the setting that holds a method which needs more than adapters.
    """
    for name in experiment.mapping_methods:
        if name not in TRAINED_METHODS:
            mapping.method_named(name)
    for setting in ('scaling_methods', 'transfer_methods'):
        for name in getattr(experiment, setting):
            if name in TRAINED_METHODS or mapping.method_named(name).needs:
                raise ArgumentError(setting, name, 'expected methods that need adapters alone')
    start = experiment.distill_from
    if start == FRESH and REWEIGHTED in experiment.methods:
        raise ArgumentError('distill_from', start, f'{REWEIGHTED!r} starts from a mapping')
    if start != FRESH and mapping.method_named(start).needs:
        raise ArgumentError(
            'distill_from', start, f'expected {FRESH!r} or a method that needs adapters alone'
        )


def fitted(experiment: Experiment) -> list[str]:
    """Returns the mappings that a run fits: those asked for, and the diagnostics."""
    names = [name for name in experiment.mapping_methods if name not in TRAINED_METHODS]
    if experiment.diagnostics:
        names += [name for name in DIAGNOSTICS if name not in names]
    return names


def trained(experiment: Experiment) -> list[str]:
    """Returns the methods of a run that train on the target."""
    return [name for name in experiment.mapping_methods if name in TRAINED_METHODS]


def predicted(experiment: Experiment) -> list[str]:
    """Returns every method of a run that leaves a target adapter of each held-out."""
    return [*fitted(experiment), *trained(experiment)]


def options(experiment: Experiment) -> JsonDict:
    """Returns the options of every mapping of the run."""
    return {'output_rank': experiment.output_rank or None, 'seed': experiment.seed}
