"""`translate`: source adapters become target adapters."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from lorajax import io, mapping
from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.distillation import ladder
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import models
from lorajax.experiment.adapters import SIDES, save_predicted
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.experiment.workdir import BASES
from lorajax.lora import load_peft
from lorajax.lora.peft import CONFIG_FILE
from lorajax.mapping import model_card, verdict
from lorajax.tasks import examples, sft_rows
from lorajax.tasks.chat import ChatFormat, Conversation, Encoded
from lorajax.types import Adapter


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `translate`."""

    mapping: str = option(
        '', 'a fitted mapping: RUN/mappings/METHOD, or made by map', required=True
    )
    adapter: str = option('', 'one source adapter, in PEFT format')
    adapters: tuple[str, ...] = option(
        (), 'several: directories of one source adapter each, or that hold some'
    )
    output: str = shared.output_flag('the target adapter, or for one directory of each')
    assume_source: str = option(
        '',
        'the base model that the adapters were trained on, where their configs call it by another '
        'name or not at all',
    )
    source_model: str = shared.model_flag('the model of the adapters; needed for prompts', False)
    target_model: str = shared.model_flag(
        'the model that gets adapters; needed for prompts and examples', False
    )
    prompts: str = option(
        '',
        'JSON lines with a prompt each, like those that the adapter is for; answers are not read',
    )
    distill: bool = option(False, 'train on the answers to the prompts, too')
    examples: str = option('', 'JSON lines of labelled rows of the task, as train reads them')
    adapter_dtype: str = shared.adapter_dtype_flag()
    force: bool = option(False, 'write results that do nothing, or worse than that, too')


def translate(flags: Flags, experiment: Experiment) -> None:
    """Turns source adapters into target adapters, as well as what is given allows.

    With a mapping alone it needs neither base model nor data. With both models and prompts the
    source model answers the prompts with its adapter, and weights of the anchors are fitted to
    the answers; with distill a training follows. With labelled examples weights are fitted to
    these. Eight or more prompts or examples are enough to keep some out and to see whether a
    step helped; one that did not is not taken.

    Each result is a PEFT adapter of the target model with a model card, which says what it was
    made from, what was seen of its quality, and whether to use it.

    Raises:
      InputError: if an adapter belongs to another base than the mapping's source, its shapes
        differ from the anchors', a model is not the mapping's, or a result is zero everywhere or
        worse than no adapter.
      ArgumentError: unless one of adapter and adapters is given; if flags lack others that they
        need; if the output exists.
    """
    output = shared.new_directory(flags.output)
    _check_flags(flags)
    sources = _sources(flags)
    prompts = sft_rows.read_prompts(pathlib.Path(flags.prompts)) if flags.prompts else []
    labelled = sft_rows.read(pathlib.Path(flags.examples)) if flags.examples else ()
    bases = read_bases(pathlib.Path(flags.mapping) / BASES)
    _check_models(flags, bases)
    fitted = mapping.load(flags.mapping)
    queries = {name: _read(path, bases['source'], flags) for name, path in sources.items()}
    predictions = {
        name: _predict(flags, fitted, sources[name], query) for name, query in queries.items()
    }
    start = {name: prediction.adapter for name, prediction in predictions.items()}
    reached = {name: ladder.Reached(adapter) for name, adapter in start.items()}
    if prompts or labelled:
        _check_shapes(flags, queries, start)
        reached = ladder.climb(
            lambda: models.load(flags.source_model, experiment),
            lambda: models.load(flags.target_model, experiment),
            _anchors(fitted),
            queries,
            start,
            prompts,
            ladder.Limits(
                experiment.eval_batch_size, experiment.max_len,
                shared.decode_limit(experiment), experiment.adapters_per_step,
            ),
            training=experiment.train_config if flags.distill else None,
            examples=(lambda chat: _encode(chat, labelled, experiment, flags))
            if labelled else None,
        )  # fmt: skip
    verdicts = {
        name: judge(
            reached[name], sources[name], fitted.diagnostics, predictions[name].report, flags.force
        )
        for name in sources
    }
    with io.atomic_directory(output) as partial:
        for name, path in sources.items():
            directory = partial if flags.adapter else partial / name
            save_predicted(directory, reached[name].adapter, bases['target'], flags.adapter_dtype)
            card = model_card.model_card(
                bases=bases,
                adapter=str(path),
                mapping=flags.mapping,
                diagnostics=fitted.diagnostics,
                report=predictions[name].report,
                **_described(reached[name], verdicts[name]),
            )
            io.write_text(directory / 'README.md', card)
    for name, path in sources.items():
        _say(fitted, path, predictions[name].report, reached[name], verdicts[name])
    logging.info('%s adapters for %s: %s', fitted.method, bases['target'], output)


def _sources(flags: Flags) -> dict[str, pathlib.Path]:
    """Returns the adapters to translate, by name."""
    if bool(flags.adapter) == bool(flags.adapters):
        raise InputError('--adapter, --adapters: expected one of the two')
    if flags.adapter:
        return {'': pathlib.Path(flags.adapter)}
    sources: dict[str, pathlib.Path] = {}
    for name in flags.adapters:
        root = pathlib.Path(name)
        if not root.is_dir():
            raise ArgumentError('adapters', root, 'no such directory')
        paths = [p for p in (root, *sorted(root.iterdir())) if (p / CONFIG_FILE).is_file()]
        if not paths:
            raise ArgumentError('adapters', root, f'is no adapter and holds none ({CONFIG_FILE})')
        for path in paths:
            if path.name in sources:
                raise ArgumentError('adapters', path, f'{sources[path.name]} has the same name')
            sources[path.name] = path
    return sources


def read_bases(path: pathlib.Path) -> dict[str, str]:
    """Reads which base models a mapping is between.

    Raises:
      InputError: if the file is missing or holds something else.
    """
    bases = io.read_json(path)
    if not isinstance(bases, dict) or not all(isinstance(bases.get(s), str) for s in SIDES):
        raise InputError(
            f'{path}: is {io.shorten(repr(bases))}, expected the names of source and target'
        )
    return bases


def _read(path: pathlib.Path, source: str, flags: Flags) -> Adapter:
    """Reads an adapter that must belong to the mapping's source model."""
    config, adapter = load_peft(path)
    base = flags.assume_source or config.base_model
    if not base:
        logging.warning('%s: names no base model, taken as an adapter of %s', path, source)
    elif base != source:
        raise InputError(
            f'{path}: belongs to {base}, the mapping translates adapters of {source}'
            + ('' if flags.assume_source else '; assume_source says that the two are the same')
        )
    return adapter


def _check_flags(flags: Flags) -> None:
    """Refuses flags that lack others which they need, before anything is read.

    Raises:
      ArgumentError: naming what is lacking.
    """
    for needing, needed in (
        ('prompts', 'source_model'), ('prompts', 'target_model'), ('examples', 'target_model'),
        ('distill', 'prompts'),
    ):  # fmt: skip
        if getattr(flags, needing) and not getattr(flags, needed):
            raise ArgumentError(needed, None, f'is missing, {needing} needs it')
    for unused in ('source_model', 'target_model'):
        if getattr(flags, unused) and not (flags.prompts or flags.examples):
            raise ArgumentError(unused, getattr(flags, unused), 'is of use with prompts alone')
    if flags.examples and flags.adapters:
        raise ArgumentError('examples', flags.examples, 'are of one task, expected one adapter')


def _check_models(flags: Flags, bases: Mapping[str, str]) -> None:
    """Compares the models given with those that the mapping is between.

    Where the mapping has their fingerprints these decide, whatever the names; otherwise another
    name is warned of.

    Raises:
      InputError: if a model's weights are others.
    """
    for side in SIDES:
        given = getattr(flags, f'{side}_model')
        if not given:
            continue
        recorded = bases.get(f'{side}_weights')
        if recorded:
            if models.weights_hash(models.resolve(given)) != recorded:
                raise InputError(
                    f'{given}: its weights are not those of {bases[side]}, the {side} model of '
                    f'{flags.mapping}'
                )
        elif given != bases[side]:
            logging.warning(
                '%s: the mapping names %s as its %s model; taken as the same',
                given, bases[side], side,
            )  # fmt: skip


def _check_shapes(
    flags: Flags, queries: Mapping[str, Adapter], start: Mapping[str, Adapter]
) -> None:
    """Refuses models for which the adapters are not, before one is loaded."""
    for side, adapters in (('source', queries), ('target', start)):
        name = getattr(flags, f'{side}_model')
        if not name:
            continue
        config = models.read_config(name)
        for projection, entry in next(iter(adapters.values()))['layers'].items():
            widths = np.shape(entry['a'])[-2], np.shape(entry['b'])[-1]
            found = np.shape(entry['a'])[0], *widths
            expected = config.num_layers, *config.projections[projection]
            if found != expected:
                raise InputError(
                    f"{name}: {projection} has (layers, in, out) {expected}, the mapping's "
                    f'adapters of the {side} {found}'
                )


def _predict(
    flags: Flags, fitted: mapping.TransferMap, path: pathlib.Path, query: Adapter
) -> mapping.Prediction:
    """Translates one adapter; refuses a result of zeros."""
    try:
        prediction = fitted.explain(query)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    if not flags.force and not any(
        np.any(entry['a']) and np.any(entry['b']) for entry in prediction.adapter['layers'].values()
    ):
        raise InputError(
            f'{path}: its translation changes nothing, all of it is zero; force writes it anyway'
        )
    return prediction


def _anchors(fitted: mapping.TransferMap) -> ladder.Anchors:
    """Returns the adapters that a mapping keeps; those of the source are not needed."""
    try:
        source = fitted.anchors('source')
    except InputError:
        source = {}
    return ladder.Anchors(source, fitted.anchors('target'))


def _encode(
    chat: ChatFormat,
    rows: Sequence[Conversation],
    experiment: Experiment,
    flags: Flags,
) -> list[Encoded]:
    """Returns labelled examples in the target's tokens."""
    encoded = [chat.encode_conversation(row) for row in rows]
    return examples.fit(encoded, experiment.max_len, flags.examples)


def judge(
    reached: ladder.Reached,
    path: pathlib.Path,
    diagnostics: Mapping[str, Any],
    report: Mapping[str, Any],
    force: bool,
) -> verdict.Verdict:
    """Returns what to do with a result.

    Args:
      reached: the result.
      path: of the source adapter, for messages.
      diagnostics: of the mapping.
      report: of its prediction.
      force: whether a result that is worse than no adapter is judged, too.

    Raises:
      InputError: for such a result otherwise.
    """
    if not reached.kept_out:
        return verdict.of_map(diagnostics, report, reached.rung)
    checked = verdict.Checked(
        reached.losses[ladder.NONE], reached.losses[reached.rung], reached.floor,
        reached.kept_out, reached.is_backed,
    )  # fmt: skip
    if checked.result >= checked.none and not force:
        raise InputError(
            f'{path}: its translation is worse than no adapter ({checked.result:.3f} against '
            f'{checked.none:.3f} nats per token of answers that were kept out); force writes it '
            'anyway'
        )
    return verdict.of_check(checked)


def _described(reached: ladder.Reached, judged: verdict.Verdict) -> dict[str, Any]:
    """Returns what the model card says of the rung, as arguments of `model_card`."""
    facts = [('rung reached', f'{reached.rung}: {verdict.SAW[reached.rung]}')]
    if reached.learned:
        facts.append(('fitted to', f'{reached.learned} answers'))
    if reached.kept_out:
        losses = ', '.join(f'{name} {loss:.3f}' for name, loss in reached.losses.items())
        facts.append((f'nats per token of {reached.kept_out} answers kept out', losses))
    facts += [('note', note) for note in reached.notes]
    facts += [(f'the rung {rung} needs', needs) for rung, needs in verdict.NEEDS.items()]
    return {
        'made': verdict.SAW[reached.rung],
        'verdict': f'{judged.word}, {judged.reason}',
        'facts': facts,
    }


def _say(
    fitted: mapping.TransferMap,
    path: pathlib.Path,
    report: Mapping[str, Any],
    reached: ladder.Reached,
    judged: verdict.Verdict,
) -> None:
    """Logs what came of an adapter, what to expect of it, and what a higher rung needs."""
    logging.info('%s: rung reached: %s', path, reached.rung)
    for name, loss in reached.losses.items():
        logging.info('%s:   %-10s %.3f nats per token of answers kept out', path, name, loss)
    for note in reached.notes:
        logging.info('%s: %s', path, note)
    logging.info(
        '%s: expected quality of the map: %s', path, model_card.expectation(fitted.diagnostics)
    )
    distance = report.get('distance_to_span')
    if distance is not None:
        logging.info('%s: share outside of what the anchors span: %.2f', path, distance)
    if caution := model_card.warning(fitted.diagnostics, report):
        logging.warning('%s: %s', path, caution)
    higher = ladder.RUNGS[ladder.RUNGS.index(reached.rung) + 1 :]
    for rung in higher:
        logging.info('%s: the rung %s needs %s', path, rung, verdict.NEEDS[rung])
    logging.info('%s: verdict: %s, %s', path, judged.word, judged.reason)


COMMAND = Command(
    'translate', translate, Flags,
    reads=('seed', 'num_epochs', 'batch_size', 'learning_rate', 'schedule', 'warmup_ratio',
           'weight_decay', 'max_grad_norm', 'lora_rank', 'lora_alpha', 'separate_init',
           'eval_batch_size', 'lengths', 'adapters_per_step', 'remat', 'mesh', 'precision'),
    has_recipe=True,
    only_with={
        **dict.fromkeys(
            ('seed', 'num_epochs', 'batch_size', 'learning_rate', 'schedule', 'warmup_ratio',
             'weight_decay', 'max_grad_norm', 'lora_rank', 'lora_alpha', 'separate_init', 'remat'),
            ('distill',),
        ),
        **dict.fromkeys(
            ('eval_batch_size', 'lengths', 'adapters_per_step', 'mesh', 'precision',
             'compilation_cache'),
            ('prompts', 'examples'),
        ),
    },
)  # fmt: skip
