"""`translate`: source adapters become target adapters."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

from absl import logging

from lorajax import io, mapping
from lorajax.commands import climbing, fleet, shared, translation
from lorajax.commands.climbing import Given
from lorajax.commands.command import Command
from lorajax.commands.translation import Mapped, Result
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import base_arrays, models
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.experiment.shards import Shard
from lorajax.experiment.workdir import BASES
from lorajax.mapping import advice
from lorajax.mapping.advice import Known
from lorajax.tasks import sft_rows


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `translate`."""

    mapping: str = option(
        '', 'a fitted mapping: RUN/mappings/METHOD, or made by map', required=True
    )
    adapter: str = option('', 'one source adapter, in PEFT format')
    adapters: tuple[str, ...] = option(
        (), 'several: directories of one source adapter each, or that hold some, however deep'
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
        'JSON lines with a prompt each, of which an adapter learns those that seem to be of its '
        'kind; answers are not read',
    )
    trust_prompts: bool = option(
        False, 'learn the answers to all prompts, whatever kind they seem to be of'
    )
    sample_prompts: int = option(
        0,
        'instead of prompts: how many the source model writes itself with the adapter, of which at '
        f'most {climbing.KEPT} are kept; some hundreds, as most are of other kinds',
        minimum=0,
    )
    distill: bool = option(
        False,
        'train on the answers to the prompts, too, from some 32 on; of few each is seen more often '
        'than the recipe says',
    )
    examples: str = option('', 'JSON lines of labelled rows of the task, as train reads them')
    adapter_dtype: str = shared.adapter_dtype_flag()
    force: bool = option(
        False, 'write results that do nothing or worse, or are predicted to, as well'
    )
    num_shards: int = option(
        1, 'processes that divide the adapters and write to one output', minimum=1
    )
    shard_index: int = option(0, 'which of them this is, from 0 on', minimum=0)


def translate(flags: Flags, experiment: Experiment) -> None:
    """Turns source adapters into target adapters, as well as what is given allows.

    With a mapping alone it needs neither base model nor data. With both models and prompts the
    source model answers the prompts with its adapter, and the target's anchors are put together
    anew to fit the answers; with distill a training follows. With labelled examples they fit
    these. Eight or more prompts or examples are enough to keep some out and to see whether a
    step helped; one that did not is not taken.

    With both models, or by what the mapping says of itself, it also says which way is best for
    what is given: near relatives need no mapping.

    Each result is a PEFT adapter of the target model with a model card, which says what it was
    made from, what was seen of its quality, and whether to use it. Of several adapters each is
    written as soon as it is there, a summary is kept beside them, and those that cannot be
    translated are named in it; a call that was killed goes on where it stopped.

    Raises:
      InputError: if an adapter belongs to another base than the mapping's source, its shapes
        differ from the anchors', a model is not the mapping's, or a result is zero everywhere,
        worse than no adapter, or predicted to be.
      ArgumentError: unless one of adapter and adapters is given; if flags lack others that they
        need; if the output exists.
    """
    _check_flags(flags)
    shard = Shard(flags.num_shards, flags.shard_index)
    output = pathlib.Path(flags.output)
    if flags.adapter:
        shared.new_directory(flags.output)
        paths = {'adapter': pathlib.Path(flags.adapter)}
    else:
        found = fleet.find(flags.adapters)
        paths = {name: found[name] for name in shard.share(list(found))}
    prompts = sft_rows.read_prompts(pathlib.Path(flags.prompts)) if flags.prompts else []
    labelled = sft_rows.read(pathlib.Path(flags.examples)) if flags.examples else ()
    bases = translation.read_bases(pathlib.Path(flags.mapping) / BASES)
    _check_models(flags, bases)
    mapped = Mapped(flags.mapping, mapping.load(flags.mapping), bases)
    # Where models are needed in turns, both stay in memory.
    in_turns = flags.adapters or flags.sample_prompts
    load = functools.cache(models.load) if in_turns else models.load
    known = _known(flags, len(prompts), len(labelled))
    logging.info('advice: %s', translation.advise(mapped, known))
    given = Given(
        flags.source_model, flags.target_model, prompts, flags.sample_prompts, labelled,
        flags.examples, flags.distill, flags.trust_prompts,
    )  # fmt: skip

    def results(chosen: Mapping[str, pathlib.Path]) -> dict[str, Result]:
        queries = {
            name: translation.read_adapter(path, mapped, flags.assume_source)
            for name, path in chosen.items()
        }
        predictions = translation.predict(mapped, chosen, queries)
        start = {name: prediction.adapter for name, prediction in predictions.items()}
        reached = climbing.climb(given, experiment, load, mapped.fitted, queries, start)
        return {
            name: translation.judge(
                mapped, path, queries[name], predictions[name], reached[name], flags.force
            )
            for name, path in chosen.items()
        }

    def write(directory: pathlib.Path, result: Result) -> None:
        translation.write(directory, mapped, result, flags.adapter_dtype)
        # Of many a table says the rest, and each has a card.
        (translation.say if flags.adapter else translation.warn)(mapped, result)

    if flags.adapter:
        (result,) = results(paths).values()
        with io.atomic_directory(output) as partial:
            write(partial, result)
    else:
        suffix = '' if shard.is_whole else f'_{shard.shard_index}_of_{shard.num_shards}'
        fleet.run(output, paths, _settings(flags, bases), results, write, suffix)
    logging.info('%s adapters for %s: %s', mapped.fitted.method, bases['target'], output)


def _known(flags: Flags, prompts: int, labels: int) -> Known:
    """Returns what the user gave, for advice."""
    cosine = None
    if flags.source_model and flags.target_model:
        cosine = base_arrays.weight_cosine(flags.source_model, flags.target_model)
        logging.info('%s', advice.likeness(cosine))
    asked = climbing.KEPT if flags.sample_prompts else prompts
    return Known(weight_cosine=cosine, prompts=asked, labels=labels, can_train=flags.distill)


def _check_flags(flags: Flags) -> None:
    """Refuses flags that lack others which they need, before anything is read.

    Raises:
      InputError: unless one of adapter and adapters is given.
      ArgumentError: naming what is lacking.
    """
    if bool(flags.adapter) == bool(flags.adapters):
        raise InputError('--adapter, --adapters: expected one of the two')
    for needing, needed in (
        ('prompts', 'source_model'), ('prompts', 'target_model'),
        ('sample_prompts', 'source_model'), ('sample_prompts', 'target_model'),
        ('examples', 'target_model'),
    ):  # fmt: skip
        if getattr(flags, needing) and not getattr(flags, needed):
            raise ArgumentError(needed, None, f'is missing, {needing} needs it')
    if flags.distill and not (flags.prompts or flags.sample_prompts):
        raise ArgumentError('prompts', None, 'is missing, distill needs it')
    if flags.trust_prompts and not flags.prompts:
        raise ArgumentError('prompts', None, 'is missing, trust_prompts needs it')
    if flags.prompts and flags.sample_prompts:
        raise ArgumentError('sample_prompts', flags.sample_prompts, 'expected this or prompts')
    is_asked = flags.prompts or flags.sample_prompts or flags.examples
    given = [name for name in ('source_model', 'target_model') if getattr(flags, name)]
    if len(given) == 1 and not is_asked:
        (name,) = given
        raise ArgumentError(name, getattr(flags, name), 'is of use with prompts or the other model')
    if flags.examples and flags.adapters:
        raise ArgumentError('examples', flags.examples, 'are of one task, expected one adapter')
    if flags.num_shards > 1 and flags.adapter:
        raise ArgumentError('num_shards', flags.num_shards, 'divides several adapters')


def _settings(flags: Flags, bases: Mapping[str, str]) -> dict[str, object]:
    """Returns what the results of a fleet depend on, as JSON has it."""
    known = dataclasses.asdict(flags)
    for name in ('output', 'num_shards', 'shard_index', 'adapter'):
        known.pop(name)
    return {**known, 'adapters': list(flags.adapters), 'bases': dict(bases)}


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


COMMAND = Command(
    'translate', translate, Flags,
    reads=('end_tokens', 'seed', 'num_epochs', 'batch_size', 'learning_rate', 'schedule',
           'warmup_ratio', 'weight_decay', 'max_grad_norm', 'lora_rank', 'lora_alpha',
           'separate_init', 'eval_batch_size', 'lengths', 'adapters_per_step', 'remat',
           'attention', 'mesh', 'precision'),
    has_recipe=True,
    only_with={
        **dict.fromkeys(
            ('num_epochs', 'batch_size', 'learning_rate', 'schedule', 'warmup_ratio',
             'weight_decay', 'max_grad_norm', 'lora_rank', 'lora_alpha', 'separate_init', 'remat',
             'attention'),
            ('distill',),
        ),
        'seed': ('distill', 'sample_prompts'),
        **dict.fromkeys(
            ('end_tokens', 'eval_batch_size', 'lengths', 'adapters_per_step', 'mesh', 'precision',
             'compilation_cache'),
            ('prompts', 'sample_prompts', 'examples'),
        ),
    },
)  # fmt: skip
