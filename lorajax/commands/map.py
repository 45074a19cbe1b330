"""`map`: a mapping from pairs of adapters that exist already."""

import dataclasses
import pathlib

from absl import logging

from lorajax import io, mapping
from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.experiment import methods
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.experiment.workdir import BASES
from lorajax.mapping import model_card, pairs


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `map`."""

    pairs: str = option(
        '',
        'a directory of adapters in PEFT format: <task>/{source,target}, or {source,target}/<task> '
        'as below adapters of a run',
        required=True,
    )
    method: str = option('matched_scaled', 'a name of lorajax.mapping.METHODS')
    output: str = shared.output_flag('the mapping')


def fit_map(flags: Flags, experiment: Experiment) -> None:
    """Fits a mapping on pairs of adapters that exist already.

    It needs neither models nor data, and says what leave-one-out on the pairs lets expect.

    Raises:
      InputError: if half of a pair is missing, shapes differ within a side, or the output exists.
    """
    output = shared.new_directory(flags.output)
    mapping.method_named(flags.method)
    source, target, bases = pairs.read(pathlib.Path(flags.pairs))
    fitted = mapping.fit(flags.method, source, target, **methods.options(experiment))
    with io.atomic_directory(output) as partial:
        fitted.save(partial)
        io.write_json(partial / BASES, bases)
        io.write_sums(partial)
    scores = fitted.diagnostics
    logging.info('expected quality: %s', model_card.expectation(scores))
    by_anchor = scores.get('loo_r2_by_anchor') or []
    for task, score in zip(fitted.tasks, by_anchor, strict=False):
        logging.info('  %s: R2 %.3f when left out', task, score)
    logging.info('%s mapping of %d pairs: %s', fitted.method, len(fitted.tasks), output)


COMMAND = Command('map', fit_map, Flags, reads=('output_rank', 'seed'))
