"""`map`: a mapping from pairs of adapters that exist already."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import cast

import numpy as np
from absl import logging

from lorajax import io, mapping
from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.errors import ArgumentError
from lorajax.evaluation import functional
from lorajax.experiment import methods, models
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.experiment.workdir import BASES
from lorajax.mapping import model_card, pairs, quality
from lorajax.tasks import examples, sft_rows
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.types import JsonDict

_MOST_ROWS = 32  # of a pair, on which its left-out prediction is tried


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `map`."""

    pairs: str = option(
        '',
        'a directory of adapters in PEFT format: <task>/{source,target}, or {source,target}/<task> '
        'as below adapters of a run; of several trainings of one adapter, in a directory in its '
        'place, the mean update is taken',
        required=True,
    )
    method: str = option(
        '',
        f'a name of lorajax.mapping.METHODS; by default {mapping.DEFAULT}, or with rows the one of '
        f'{", ".join(mapping.CANDIDATES)} whose left-out pairs do their tasks best',
    )
    rows: str = option(
        '', 'a directory of labelled rows of the pairs, <task>.jsonl, as train reads them'
    )
    target_model: str = shared.model_flag('on which left-out pairs are tried; needs rows', False)
    output: str = shared.output_flag('the mapping')


def fit_map(flags: Flags, experiment: Experiment) -> None:
    """Fits a mapping on pairs of adapters that exist already.

    It needs neither models nor data, and says what leave-one-out on the pairs lets expect. With the
    target model and rows of the pairs, every left-out pair is tried on its own rows: this chooses
    the method, and translate then says what to expect of an adapter by it.

    Raises:
      InputError: if half of a pair is missing, shapes differ within a side, or the output exists.
      ArgumentError: if one of target_model and rows is missing, or no pair has rows.
    """
    output = shared.new_directory(flags.output)
    for given, needed in (('rows', 'target_model'), ('target_model', 'rows')):
        if getattr(flags, given) and not getattr(flags, needed):
            raise ArgumentError(needed, None, f'is missing, {given} needs it')
    names = (flags.method,) if flags.method else mapping.CANDIDATES
    for name in names:
        method = mapping.method_named(name)
        if method.needs or method.query_side != 'source':
            what = 'both base models' if method.needs else 'the true target adapter'
            problem = f'needs {what}, which a run has; expected a method of adapters alone'
            raise ArgumentError('method', name, problem)
    *sides, bases = pairs.read(pathlib.Path(flags.pairs))
    source, target = mapping.read_pair(*sides)
    options = methods.options(experiment)
    if flags.rows:
        fitted = _best(flags, experiment, names, source, target, options)
    else:
        fitted = mapping.fit(flags.method or mapping.DEFAULT, source, target, **options)
    with io.atomic_directory(output) as partial:
        fitted.save(partial)
        io.write_json(partial / BASES, bases)
        io.write_sums(partial)
    _say(fitted)
    logging.info('%s mapping of %d pairs: %s', fitted.method, len(fitted.tasks), output)


def _best(
    flags: Flags,
    experiment: Experiment,
    names: Sequence[str],
    source: mapping.Anchors,
    target: mapping.Anchors,
    options: JsonDict,
) -> mapping.TransferMap:
    """Fits methods and returns the one whose left-out pairs do their tasks best."""
    model, chat = models.load(flags.target_model, experiment, 'target')
    rows = _read_rows(pathlib.Path(flags.rows), target.tasks, chat, experiment.max_len)
    losses: dict[str, functional.Losses] = {}
    known, best = None, None
    for name in names:
        fitted = mapping.fit(name, source, target, **options)
        known = losses[name] = functional.leave_one_out(
            model, chat.pad_id, fitted, target.trees, rows, experiment.eval_batch_size, known
        )
        logging.info(
            '%s: left-out pairs have %.3f nats per token', name, functional.left_out_mean(known)
        )
        if functional.best(losses) == name:
            best = fitted
            best.state.info[quality.FUNCTIONAL] = known
    return cast(mapping.TransferMap, best)  # there is a name, and the first is the best at first


def _read_rows(
    directory: pathlib.Path, tasks: Sequence[str], chat: ChatFormat, max_len: int
) -> dict[str, list[Encoded]]:
    """Reads the rows of each pair that has a file."""
    files = {task: directory / f'{task}.jsonl' for task in tasks}
    rows = {}
    for task, path in files.items():
        if path.is_file():
            encoded = [chat.encode_conversation(row) for row in sft_rows.read(path)[:_MOST_ROWS]]
            rows[task] = examples.fit(encoded, max_len, str(path))
    if not rows:
        raise ArgumentError('rows', directory, f'holds no file of a pair, such as {tasks[0]}.jsonl')
    if missing := sorted(set(tasks) - set(rows)):
        logging.warning('%s: no rows of %s; the others decide', directory, ', '.join(missing))
    return rows


def _say(fitted: mapping.TransferMap) -> None:
    """Logs what is to be expected."""
    scores = fitted.diagnostics
    logging.info('expected quality: %s', model_card.expectation(scores))
    by_anchor = scores.get('loo_r2_by_anchor') or []
    shares = quality.shares(scores.get(quality.FUNCTIONAL) or {})
    for task, score in zip(fitted.tasks, by_anchor, strict=False):
        share = f', {shares[task]:.2f} of what an adapter can gain' if task in shares else ''
        logging.info('  %s: R2 %.3f when left out%s', task, score, share)
    typical = quality.expect(scores, {'distance_to_span': _median(scores)})
    logging.info('expected of an adapter about as far from the pairs: %s', typical.words)


def _median(scores: JsonDict) -> float | None:
    """Returns the median distance of an anchor to the span of the others, if there is one."""
    known = model_card.anchor_distances(scores)
    return float(np.median(known)) if known else None


COMMAND = Command(
    'map', fit_map, Flags,
    reads=('end_tokens', 'output_rank', 'seed', 'eval_batch_size', 'max_len', 'mesh', 'precision'),
    has_recipe=True,
    only_with=dict.fromkeys(
        ('end_tokens', 'eval_batch_size', 'max_len', 'mesh', 'precision', 'compilation_cache'),
        ('rows',),
    ),
)  # fmt: skip
