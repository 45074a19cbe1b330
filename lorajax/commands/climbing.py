"""How `translate` climbs from a map with what it was given; see `distillation.ladder`."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax import mapping
from lorajax.commands import shared
from lorajax.distillation import ladder, self_prompts
from lorajax.errors import InputError
from lorajax.experiment import models
from lorajax.experiment.config import Experiment
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat, Conversation, Encoded
from lorajax.tasks.task import Prompt
from lorajax.types import Adapter

KEPT = 32  # prompts that a model wrote itself: more gained little where users had some

Load = Callable[[str, Experiment, str], tuple[Model, ChatFormat]]


class Given(NamedTuple):
    """What a user gave beside a mapping.

    Attributes:
      source_model, target_model: names; empty if not given.
      prompts: user messages, for all adapters.
      sampled: how many prompts the source model is to write itself for each adapter, instead.
      labelled: rows of the one task of all adapters.
      examples: names these in messages.
      distill: whether to train on answers.
      trust_prompts: whether all prompts are of the adapters' kind, whatever they seem to be.
    """

    source_model: str
    target_model: str
    prompts: Sequence[Prompt]
    sampled: int
    labelled: Sequence[Conversation]
    examples: str
    distill: bool
    trust_prompts: bool = False


def climb(
    given: Given,
    experiment: Experiment,
    load: Load,
    fitted: mapping.TransferMap,
    queries: Mapping[str, Adapter],
    start: Mapping[str, Adapter],
) -> dict[str, ladder.Reached]:
    """Climbs from translations as far as prompts and labels allow.

    Args:
      given: what the user gave.
      experiment: sizes, precision and the recipe of a training.
      load: loads a model by name, with what is asked for of its side.
      fitted: the mapping, whose anchors are put together anew.
      queries: adapters of the source by name.
      start: their translations.

    Raises:
      InputError: if a model is not of the adapters' shapes; as `ladder.climb`.
    """
    if not (given.prompts or given.labelled or given.sampled):
        return {name: ladder.Reached(adapter) for name, adapter in start.items()}
    _check_shapes(given, queries, start)

    def with_prompts(
        names: Sequence[str], prompts: Sequence[str | Prompt]
    ) -> dict[str, ladder.Reached]:
        return ladder.climb(
            lambda: load(given.source_model, experiment, 'source'),
            lambda: load(given.target_model, experiment, 'target'),
            _anchors(fitted, given.trust_prompts),
            {name: queries[name] for name in names},
            {name: start[name] for name in names},
            prompts,
            ladder.Limits(
                experiment.eval_batch_size, experiment.max_len,
                shared.decode_limit(experiment), experiment.adapters_per_step,
            ),
            training=experiment.train_config if given.distill else None,
            examples=functools.partial(_encode, given, experiment) if given.labelled else None,
        )  # fmt: skip

    if not given.sampled:
        found = with_prompts(list(queries), given.prompts)
        return {name: _with_way_out(one) for name, one in found.items()}
    reached = {}
    for name, query in queries.items():
        model, chat = load(given.source_model, experiment, 'source')
        kept, note = _own_prompts(model, chat, query, given.sampled, experiment)
        one = ladder.Reached(start[name])
        if kept or given.labelled:
            one = with_prompts([name], kept)[name]
        reached[name] = dataclasses.replace(one, notes=(note, *one.notes))
    return reached


def _with_way_out(reached: ladder.Reached) -> ladder.Reached:
    """Adds what to do to the note that a user's prompts seem to be of another kind."""
    notes = [
        f'{note}; trust_prompts learns them' if note == ladder.OTHER_KIND else note
        for note in reached.notes
    ]
    return dataclasses.replace(reached, notes=tuple(notes))


def _own_prompts(
    model: Model, chat: ChatFormat, adapter: Adapter, count: int, experiment: Experiment
) -> tuple[list[str], str]:
    """Returns prompts that the source model writes with an adapter, and a note on how many."""
    sampled = self_prompts.sample(
        model, chat, adapter, count, max_new_tokens=experiment.max_len,
        batch_size=experiment.eval_batch_size, seed=experiment.seed,
    )  # fmt: skip
    kept = self_prompts.select(
        model, chat, adapter, sampled, KEPT, batch_size=experiment.eval_batch_size,
        max_len=experiment.max_len, max_new_tokens=shared.decode_limit(experiment),
    )  # fmt: skip
    return list(kept), (
        f'{count} prompts were sampled from the source model, {len(sampled)} of them whole and '
        f'different; the adapter stands out on {len(kept)} that were kept'
    )


def _check_shapes(
    given: Given, queries: Mapping[str, Adapter], start: Mapping[str, Adapter]
) -> None:
    """Refuses models for which the adapters are not, before one is loaded."""
    for side, adapters in (('source', queries), ('target', start)):
        name = getattr(given, f'{side}_model')
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


def _anchors(fitted: mapping.TransferMap, trust_prompts: bool) -> ladder.Anchors:
    """Returns the adapters that a mapping keeps; without those of the source all is believed."""
    source: Mapping[str, Adapter] = {}
    if not trust_prompts:
        with contextlib.suppress(InputError):  # some mappings keep none
            source = fitted.anchors('source')
    return ladder.Anchors(source, fitted.anchors('target'))


def _encode(given: Given, experiment: Experiment, chat: ChatFormat) -> list[Encoded]:
    """Returns labelled examples in the target's tokens."""
    encoded = [chat.encode_conversation(row) for row in given.labelled]
    return examples.fit(encoded, experiment.max_len, given.examples)
