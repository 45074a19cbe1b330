"""The ladder: translated adapters become the best that prompts, a training and labels allow.

  map          pairs of adapters (anchors); what the ladder starts from
  reweighted   also both models and some prompts: the source model answers them with its adapter,
               and weights of the target's anchors are fitted to the answers
  distilled    also a training of the target on these answers
  few-shot     labelled examples: weights of the anchors fitted to them

Where there are prompts enough, a quarter is kept out of every fit. A rung that makes the loss of
the answers to these greater than the rung below is not taken.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax.distillation import pseudo_labels, teacher
from lorajax.distillation.distill import Loader
from lorajax.distillation.reweight import DEFAULTS, ReweightConfig, reweight, truncate
from lorajax.distillation.teacher import Answer
from lorajax.errors import ArgumentError, InputError
from lorajax.evaluation.inference import answer_nll
from lorajax.models import Model
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Example
from lorajax.training import TrainConfig, train_adapters
from lorajax.types import Adapter

MAP, REWEIGHTED, DISTILLED, FEW_SHOT = RUNGS = ('map', 'reweighted', 'distilled', 'few-shot')
NONE = 'none'  # the bare target, in tables of losses
LEAST_TO_CHECK = 8  # answers of which a quarter is kept out
_MOST_ROWS = 64  # that weights are fitted to: more changed little and cost memory
_ANCHOR = 'anchor '  # before names of anchors, which may be those of adapters to translate
_OTHER_KIND = (
    'the answers to these prompts are not learned: pairs of adapters disagree where the source '
    'is as unsure, so the prompts do not seem to be of the kind that the adapter is for'
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
      adapter: of the target, on the host, of the translation's rank.
      rung: one of `RUNGS`.
      learned: answers or examples that the last rung was fitted to.
      losses: nats per token of answers that were kept out, by `NONE` and rung, in the order in
        which they were tried; empty if there were too few to keep any out.
      floor: nats per token of the same answers under the model that gave them, counted in the
        target's tokens: no adapter can be expected to be below it. None for labels.
      kept_out: number of these answers.
      notes: sentences on what happened.
    """

    adapter: Adapter
    rung: str = MAP
    learned: int = 0
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    floor: float | None = None
    kept_out: int = 0
    notes: tuple[str, ...] = ()


class _Row(NamedTuple):
    """An answered prompt in the target's tokens."""

    encoded: Encoded
    trust: float = 1.0
    floor: float = 0.0  # nats per token of the target under the model that gave the answer


class _Rows(NamedTuple):
    """What an adapter is fitted to and checked on."""

    learn: list[_Row]
    check: list[_Row]


_Fit = Callable[[Mapping[str, Sequence[_Row]]], Mapping[str, Adapter]]


def climb(
    load_source: Loader,
    load_target: Loader,
    anchors: Anchors,
    sources: Mapping[str, Adapter],
    start: Mapping[str, Adapter],
    prompts: Sequence[str],
    limits: Limits,
    *,
    training: TrainConfig | None = None,
    examples: Callable[[ChatFormat], Sequence[Encoded]] | None = None,
    config: ReweightConfig = DEFAULTS,
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
      training: recipe of the rung 'distilled', whose rank and targets are those of `start`; None
        to leave it out.
      examples: returns labelled examples of the one task that all adapters are of.
      config: how weights are fitted.

    Raises:
      InputError: if the source model finishes no answer, or a loss is not finite.
      ArgumentError: if no answer fits into `limits.max_len`.
    """
    answers: Mapping[str, Sequence[Answer]] = {}
    if prompts:
        model, chat = load_source()
        pairs = {f'{_ANCHOR}{task}': adapter for task, adapter in anchors.source.items()}
        answers = teacher.answer(
            model, chat, {**sources, **pairs}, prompts, batch_size=limits.batch_size,
            max_len=limits.max_len, max_new_tokens=limits.max_new_tokens,
        )  # fmt: skip
        del model
    model, chat = load_target()
    reached = {name: Reached(adapter) for name, adapter in start.items()}

    def by_weights(rows: Mapping[str, Sequence[_Row]]) -> Mapping[str, Adapter]:
        some = {name: known[:_MOST_ROWS] for name, known in rows.items()}
        below = {name: reached[name].adapter for name in rows}
        fitted = reweight(
            model, anchors.target,
            {name: [row.encoded for row in known] for name, known in some.items()},
            trust={name: np.array([row.trust for row in known]) for name, known in some.items()},
            pad_id=chat.pad_id, start_from=below, config=config,
            adapters_per_step=limits.adapters_per_step,
        )  # fmt: skip
        return {name: truncate(wide, _rank(below[name])) for name, wide in fitted.items()}

    def by_training(rows: Mapping[str, Sequence[_Row]]) -> Mapping[str, Adapter]:
        below = {name: reached[name].adapter for name in rows}
        return _train(model, chat, rows, below, training or TrainConfig())

    if prompts:
        agreed = _agreement(model, chat, prompts, answers, anchors.target, limits)
        material = {}
        for name in start:
            rows = _answered(model, chat, prompts, answers[name], agreed, limits, name)
            if rows:
                material[name] = _Rows(*_split(rows))
            else:
                reached[name] = dataclasses.replace(reached[name], notes=(_OTHER_KIND,))
        reached = _step(REWEIGHTED, model, chat, reached, material, by_weights, limits)
        if training:
            reached = _step(DISTILLED, model, chat, reached, material, by_training, limits)
    if examples:
        labelled = _Rows(*_split([_Row(encoded) for encoded in examples(chat)]))
        reached = _step(
            FEW_SHOT, model, chat, reached, dict.fromkeys(start, labelled), by_weights, limits
        )
    return reached


def _agreement(
    model: Model,
    chat: ChatFormat,
    prompts: Sequence[str],
    answers: Mapping[str, Sequence[Answer]],
    target: Mapping[str, Adapter],
    limits: Limits,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns float[A, N] twice: losses of the anchors' answers under the teacher and the target.

    There are none where the mapping keeps no adapters of the source.
    """
    own, paired = [], []
    for task, adapter in target.items():
        said = answers.get(f'{_ANCHOR}{task}')
        if said is None:
            continue
        rows = [chat.encode(_example(task, p, a.text)) for p, a in zip(prompts, said, strict=True)]
        own.append([answer.nll for answer in said])
        paired.append(_answer_losses(model, adapter, rows, limits.batch_size, chat.pad_id))
    shape = -1, len(prompts)
    return np.reshape(own, shape), np.reshape(paired, shape)


def _step(
    rung: str,
    model: Model,
    chat: ChatFormat,
    reached: Mapping[str, Reached],
    material: Mapping[str, _Rows],
    fit: _Fit,
    limits: Limits,
) -> dict[str, Reached]:
    """Tries a rung for the adapters with material; those that it makes worse stay where they are.

    Weights that stood the check are fitted once more to all answers. A training is not repeated.
    """
    if not material:
        return dict(reached)
    tried = fit({name: rows.learn for name, rows in material.items()})
    losses = {
        name: _losses(model, chat, reached[name], rung, tried[name], rows.check, limits)
        for name, rows in material.items()
    }
    accepted = [n for n, known in losses.items() if known[rung] <= known[reached[n].rung]]
    if rung != DISTILLED and any(material[name].check for name in accepted):
        tried = fit({name: [*rows.learn, *rows.check] for name, rows in material.items()})
    result = dict(reached)
    for name, rows in material.items():
        before, is_taken = reached[name], name in accepted
        count = len(rows.learn) + (len(rows.check) if rung != DISTILLED else 0)
        notes = list(before.notes)
        if not rows.check:
            notes.append(f'too few answers to keep some out: {rung} was not checked')
        if not is_taken:
            notes.append(f'{rung} made answers that were kept out less likely and was not taken')
        result[name] = Reached(
            adapter=tried[name] if is_taken else before.adapter,
            rung=rung if is_taken else before.rung,
            learned=count if is_taken else before.learned,
            losses=losses[name] if rows.check else {},
            floor=None if rung == FEW_SHOT or not rows.check
            else float(np.mean([row.floor for row in rows.check])),
            kept_out=len(rows.check),
            notes=tuple(notes),
        )  # fmt: skip
    return result


def _losses(
    model: Model,
    chat: ChatFormat,
    before: Reached,
    rung: str,
    adapter: Adapter,
    rows: Sequence[_Row],
    limits: Limits,
) -> dict[str, float]:
    """Returns the losses of what was kept out; zeros where nothing was, so that the rung is taken.

    Losses that are known of the rungs before are of the same answers unless these are labels.
    """
    known = {} if rung == FEW_SHOT else dict(before.losses)
    encoded = [row.encoded for row in rows]
    for name, one in ((NONE, None), (before.rung, before.adapter), (rung, adapter)):
        if name not in known:
            losses = _answer_losses(model, one, encoded, limits.batch_size, chat.pad_id)
            known[name] = float(losses.mean()) if len(losses) else 0.0
    return known


def _answer_losses(
    model: Model, adapter: Adapter | None, rows: Sequence[Encoded], batch_size: int, pad_id: int
) -> np.ndarray:
    """Returns float[rows], nats per token of each answer."""
    size = min(batch_size, max(len(rows), 1))
    parts = [
        answer_nll(model, adapter, rows[i : i + size], size, pad_id)
        for i in range(0, len(rows), size)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _answered(
    model: Model,
    chat: ChatFormat,
    prompts: Sequence[str],
    answers: Sequence[Answer],
    agreed: tuple[np.ndarray, np.ndarray],
    limits: Limits,
    name: str,
) -> list[_Row]:
    """Returns the answers of one adapter that are worth learning; see `pseudo_labels.trust`."""
    if not any(np.isfinite(answer.nll) for answer in answers):
        raise InputError(
            f'{name}: the source model with its adapter finished none of {len(prompts)} answers; '
            'allow longer answers, or give other prompts'
        )
    encoded = [
        chat.encode(_example(name, p, a.text)) for p, a in zip(prompts, answers, strict=True)
    ]
    sizes = np.array([len(row.prompt) + len(row.answer) for row in encoded])
    fits = sizes <= limits.max_len
    losses = np.where(fits, [answer.nll for answer in answers], np.inf)
    if not np.isfinite(losses).any():
        raise ArgumentError(
            'max_len', limits.max_len,
            f'no answer fits with its prompt, the shortest has {sizes.min()} tokens',
        )  # fmt: skip
    short = [row for row, is_short in zip(encoded, fits, strict=True) if is_short]
    plain = np.zeros(len(encoded))
    plain[fits] = _answer_losses(model, None, short, limits.batch_size, chat.pad_id)
    weights = pseudo_labels.trust(losses, plain, *agreed)
    return [
        _Row(row, weight, answer.nll * answer.tokens / len(row.answer))
        for row, answer, weight in zip(encoded, answers, weights, strict=True)
        if weight > 0
    ]


def _example(name: str, prompt: str, answer: str) -> Example:
    """Returns an answered prompt in the form that a chat format encodes."""
    return Example(
        item=name, prompt=prompt, answer=answer, reference=answer, problem_ids=(), question=prompt
    )


def _split(rows: list[_Row]) -> tuple[list[_Row], list[_Row]]:
    """Returns what is learned, and every fourth, which is kept out; none of fewer than eight."""
    if len(rows) < LEAST_TO_CHECK:
        return rows, []
    return [row for i, row in enumerate(rows) if i % 4 != 3], rows[3::4]


def _train(
    model: Model,
    chat: ChatFormat,
    rows: Mapping[str, Sequence[_Row]],
    start: Mapping[str, Adapter],
    recipe: TrainConfig,
) -> dict[str, Adapter]:
    """Trains adapters from a start on; the rank is the start's, alpha / rank the recipe's."""
    first = next(iter(start.values()))
    rank = _rank(first)
    config = dataclasses.replace(
        recipe, rank=rank, alpha=recipe.scale * rank, targets=tuple(first['layers'])
    )
    encoded = {name: [row.encoded for row in known] for name, known in rows.items()}
    return train_adapters(
        model, encoded, config, pad_id=chat.pad_id, label=DISTILLED, start_from=start
    )


def _rank(adapter: Adapter) -> int:
    """Returns the highest rank of a factor."""
    return max(np.shape(entry['a'])[-1] for entry in adapter['layers'].values())
