"""The ladder: translated adapters become the best that prompts, a training and labels allow.

  map          pairs of adapters (anchors); what the ladder starts from
  reweighted   also both models and some prompts: the source model answers them with its adapter,
               and the target's anchors are put together anew to fit the answers
  distilled    also a training of the target on these answers
  few-shot     labelled examples: anchors put together anew to fit them

Where there are prompts enough, a quarter is kept out of every fit (`material`). A rung that makes
the loss of the answers to these greater than the rung below is not taken.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax.distillation import material, response, teacher
from lorajax.distillation.distill import Loader
from lorajax.distillation.material import Material, Row
from lorajax.distillation.reweight import DEFAULTS, ReweightConfig, Reweighting, truncate
from lorajax.distillation.teacher import Answer
from lorajax.models import Model
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Prompt
from lorajax.training import TrainConfig, train_adapters
from lorajax.types import Adapter

MAP, REWEIGHTED, DISTILLED, FEW_SHOT = RUNGS = ('map', 'reweighted', 'distilled', 'few-shot')
NONE = 'none'  # the bare target, in tables of losses
_MOST_ROWS = 64  # that cores are fitted to: more changed little and cost memory
LEAST_SEEN = 720  # answers that a training sees, repeated; 24 of them 30 times (docs/results.md)
_ANCHOR = 'anchor '  # before names of anchors, which may be those of adapters to translate
OTHER_KIND = (
    'the answers to these prompts are not learned: pairs of adapters disagree where the source '
    'is as unsure and responds as little, so the prompts do not seem to be of the kind that the '
    'adapter is for'
)
_SOME_OTHER_KIND = (
    '{} of {} answers are left out: their prompts do not seem to be of the kind that the adapter '
    'is for'
)


class Anchors(NamedTuple):
    """Adapters of both models by task; `source` may be empty, then answers are taken on trust."""

    source: Mapping[str, Adapter]
    target: Mapping[str, Adapter]


class Limits(NamedTuple):
    """Sizes of what is computed together.

    Attributes:
      batch_size: prompts answered or scored together.
      max_len: tokens of a prompt with its answer.
      max_new_tokens: longest answer.
      adapters_per_step: adapters fitted together; 0 for all.
    """

    batch_size: int
    max_len: int
    max_new_tokens: int
    adapters_per_step: int = 0


@dataclasses.dataclass(frozen=True)
class Reached:
    """How far an adapter came.

    Attributes:
      adapter: of the target, on the host, of the translation's rank or, where anchors
        were put together anew, of at least `ReweightConfig.widening` times theirs.
      rung: one of `RUNGS`.
      learned: answers or examples that the last rung was fitted to.
      losses: nats per token of answers that were kept out, by `NONE` and rung, in the order in
        which they were tried; empty if there were too few to keep any out.
      floor: nats per token of the same answers under the model that gave them, counted in the
        target's tokens: no adapter can be expected to be below it. None for labels.
      kept_out: number of these answers.
      is_backed: whether pairs of adapters spoke for the answers, or they are labels.
      notes: sentences on what happened.
    """

    adapter: Adapter
    rung: str = MAP
    learned: int = 0
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    floor: float | None = None
    kept_out: int = 0
    is_backed: bool = True
    notes: tuple[str, ...] = ()


class _Heard(NamedTuple):
    """What the source says to the prompts with each adapter, and how strongly that responds."""

    answers: Mapping[str, Sequence[Answer]]
    responses: Mapping[str, np.ndarray]


class _Target(NamedTuple):
    """The model that gets adapters, and how much of it is computed together."""

    model: Model
    chat: ChatFormat
    limits: Limits

    def loss(self, adapter: Adapter | None, rows: Sequence[Row]) -> float:
        """Mean nats per token of rows; 0 if there are none."""
        losses = material.answer_losses(
            self.model, adapter, [row.encoded for row in rows],
            self.limits.batch_size, self.chat.pad_id,
        )  # fmt: skip
        return float(losses.mean()) if len(losses) else 0.0


_Fit = Callable[[Mapping[str, Sequence[Row]], Mapping[str, Adapter]], Mapping[str, Adapter]]


def climb(
    load_source: Loader,
    load_target: Loader,
    anchors: Anchors,
    sources: Mapping[str, Adapter],
    start: Mapping[str, Adapter],
    prompts: Sequence[str | Prompt],
    limits: Limits,
    *,
    training: TrainConfig | None = None,
    examples: Callable[[ChatFormat], Sequence[Encoded]] | None = None,
    config: ReweightConfig = DEFAULTS,
    with_cores: bool = True,
) -> dict[str, Reached]:
    """Climbs from translated adapters as far as what is given allows.

    Args:
      load_source: returns the teacher and its chat format; called if there are prompts.
      load_target: returns the target and its chat format.
      anchors: adapters of both models.
      sources: adapters of the source by name.
      start: their translations.
      prompts: user messages, the same for all; none for no answers.
      limits: sizes.
      training: recipe of the rung 'distilled', whose rank and targets are those of the rung below
        and whose epochs are more where answers are few; None to leave it out.
      examples: returns labelled examples of the one task that all adapters are of.
      config: how anchors are put together anew.
      with_cores: whether the rung 'reweighted' is tried.

    Raises:
      InputError: if the source model finishes no answer, or a loss is not finite.
      ArgumentError: if no answer fits into `limits.max_len`.
    """
    heard = _Heard({}, {})
    if prompts:
        model, chat = load_source()
        pairs = {f'{_ANCHOR}{task}': adapter for task, adapter in anchors.source.items()}
        answers = teacher.answer(
            model, chat, {**sources, **pairs}, prompts, batch_size=limits.batch_size,
            max_len=limits.max_len, max_new_tokens=limits.max_new_tokens,
        )  # fmt: skip
        asked = [teacher.encode(chat, prompt)[-limits.max_len :] for prompt in prompts]
        energies = response.energies(model, {**sources, **pairs}, asked)
        heard = _Heard(answers, response.relative(energies, among=list(pairs)))
        del model
    target = _Target(*load_target(), limits)
    reached = {name: Reached(adapter) for name, adapter in start.items()}
    by_cores, by_training = _ByCores(target, anchors.target, config), None
    if training:
        by_training = _by_training(target, training)
    if prompts:
        given, notes = _trusted(target, prompts, heard, anchors.target, list(start))
        for name, note in notes.items():
            reached[name] = dataclasses.replace(reached[name], notes=(note,))
        if with_cores:
            reached = _step(REWEIGHTED, target, reached, given, by_cores)
        if by_training:
            reached = _step(DISTILLED, target, reached, given, by_training)
    if examples:
        labelled = material.split([Row(encoded) for encoded in examples(target.chat)])
        given = dict.fromkeys(start, labelled)
        reached = _step(FEW_SHOT, target, reached, given, by_cores)
    return reached


def _trusted(
    target: _Target,
    prompts: Sequence[str | Prompt],
    heard: _Heard,
    anchors: Mapping[str, Adapter],
    names: Sequence[str],
) -> tuple[dict[str, Material], dict[str, str]]:
    """Returns what can be learned, and what is to be said of the prompts, by name."""
    model, chat, limits = target
    theirs = {task: f'{_ANCHOR}{task}' for task in anchors if f'{_ANCHOR}{task}' in heard.answers}
    agreed = material.agreement(
        model, chat, prompts,
        {task: heard.answers[name] for task, name in theirs.items()},
        {task: heard.responses[name] for task, name in theirs.items()},
        anchors, limits.batch_size,
    )  # fmt: skip
    given, notes = {}, {}
    for name in names:
        found = material.trusted(
            model, chat, name, prompts, heard.answers[name], heard.responses[name], agreed,
            limits.batch_size, limits.max_len,
        )  # fmt: skip
        if found:
            given[name] = found
        if not found:
            notes[name] = OTHER_KIND
        elif found.left_out:
            notes[name] = _SOME_OTHER_KIND.format(found.left_out, len(prompts))
    return given, notes


def _step(
    rung: str,
    target: _Target,
    reached: Mapping[str, Reached],
    given: Mapping[str, Material],
    fit: _Fit,
) -> dict[str, Reached]:
    """Tries a rung for the adapters with material; those that it makes worse stay where they are.

    Weights that stood the check go on with all answers. A training does not.
    """
    if not given:
        return dict(reached)
    below = {name: reached[name].adapter for name in given}
    tried = fit({name: rows.learn for name, rows in given.items()}, below)
    losses = {
        name: _losses(target, reached[name], rung, tried[name], rows.check)
        for name, rows in given.items()
    }
    accepted = [n for n, known in losses.items() if known[rung] <= known[reached[n].rung]]
    goes_on = isinstance(fit, _ByCores)
    if isinstance(fit, _ByCores) and accepted:
        tried = fit.go_on({name: [*rows.learn, *rows.check] for name, rows in given.items()})
    result = dict(reached)
    for name, rows in given.items():
        before, is_taken = reached[name], name in accepted
        notes = list(before.notes)
        if not rows.check:
            notes.append(f'too few answers to keep some out: {rung} was not checked')
        if not is_taken:
            notes.append(f'{rung} made answers that were kept out less likely and was not taken')
        seen = dataclasses.replace(
            before,
            losses=losses[name] if rows.check else {},
            floor=None if rung == FEW_SHOT or not rows.check
            else float(np.mean([row.floor for row in rows.check])),
            kept_out=len(rows.check),
            is_backed=rows.is_backed,
            notes=tuple(notes),
        )  # fmt: skip
        count = len(rows.learn) + (len(rows.check) if goes_on else 0)
        taken = dataclasses.replace(seen, adapter=tried[name], rung=rung, learned=count)
        result[name] = taken if is_taken else seen
    return result


def _losses(
    target: _Target, before: Reached, rung: str, adapter: Adapter, rows: Sequence[Row]
) -> dict[str, float]:
    """Returns the losses of what was kept out; zeros where nothing was, so that the rung is taken.

    Losses that are known of the rungs before are of the same answers unless these are labels.
    """
    known = {} if rung == FEW_SHOT else dict(before.losses)
    for name, one in ((NONE, None), (before.rung, before.adapter), (rung, adapter)):
        if name not in known:
            known[name] = target.loss(one, rows)
    return known


class _ByCores:
    """Puts anchors together anew, from the rung below on."""

    def __init__(
        self, target: _Target, anchors: Mapping[str, Adapter], config: ReweightConfig
    ) -> None:
        self._target, self._anchors, self._config = target, anchors, config

    def __call__(
        self, rows: Mapping[str, Sequence[Row]], below: Mapping[str, Adapter]
    ) -> Mapping[str, Adapter]:
        """Returns the adapters of a new fit; see `go_on`."""
        self._below = below
        self._fits = Reweighting(
            self._target.model, self._anchors, pad_id=self._target.chat.pad_id, start_from=below,
            config=self._config, adapters_per_step=self._target.limits.adapters_per_step,
        )  # fmt: skip
        return self._go_on(rows, self._config.steps)

    def go_on(self, rows: Mapping[str, Sequence[Row]]) -> Mapping[str, Adapter]:
        """Returns the adapters of the fit that was begun last, after more steps on other rows."""
        return self._go_on(rows, self._config.more_steps)

    def _go_on(self, rows: Mapping[str, Sequence[Row]], steps: int) -> Mapping[str, Adapter]:
        some = {name: known[:_MOST_ROWS] for name, known in rows.items()}
        fitted = self._fits.go_on(
            {name: [row.encoded for row in known] for name, known in some.items()},
            {name: np.array([row.trust for row in known]) for name, known in some.items()},
            steps,
        )
        least = self._config.widening * max(_rank(anchor) for anchor in self._anchors.values())
        return {
            name: truncate(wide, max(least, _rank(self._below[name])))
            for name, wide in fitted.items()
        }


def _by_training(target: _Target, recipe: TrainConfig) -> _Fit:
    """Returns what trains from the rung below on, with its rank and alpha / rank the recipe's.

    A recipe made for all rows of a task would take a step or two where there are few.
    """

    def fit(
        rows: Mapping[str, Sequence[Row]], below: Mapping[str, Adapter]
    ) -> Mapping[str, Adapter]:
        config = {
            name: dataclasses.replace(
                recipe, rank=_rank(below[name]), alpha=recipe.scale * _rank(below[name]),
                targets=tuple(below[name]['layers']),
                num_epochs=max(recipe.num_epochs, LEAST_SEEN / len(known)),
            )
            for name, known in rows.items()
        }  # fmt: skip
        encoded = {name: [row.encoded for row in known] for name, known in rows.items()}
        return train_adapters(
            target.model, encoded, config,
            pad_id=target.chat.pad_id, label=DISTILLED, start_from=below,
        )  # fmt: skip

    return fit


def _rank(adapter: Adapter) -> int:
    """Returns the highest rank of a factor."""
    return max(np.shape(entry['a'])[-1] for entry in adapter['layers'].values())
