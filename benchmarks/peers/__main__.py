"""Peers that train, at equal compute: `python -m benchmarks.peers --workdir=DIR --worlds=demo`.

In worlds of `benchmarks.ladder_worlds`. For every held-out the source answers 96 prompts of all
kinds, a third of each domain, and 32 answers are learned, 30 epochs from the translation on:

  certainty        those of which the teacher is surest (what 'distilled' does)
  excess           those that the adapter makes most likely beside the bare source (TiTok, samples)
  excess, tokens   the same, and of each answer the 60 % of tokens of the highest excess (TiTok)
  likeness         those whose prompts are told from the pool by 8 prompts of the task (Trans-LoRA)
  random           any
  own kind         certainty among 64 prompts of the task's own domain: what choosing could reach
  likelihoods      those of 'excess', each token drawn to the teacher's likelihood of it (ALM)
  LoraHub, 8 / 32  weights of the anchors from labels without gradients, 192 passes over 8 labels,
                   48 over 32
  fresh            those of 'excess', from a fresh adapter: how Trans-LoRA and TiTok begin

A training passes over 960 rows; a search over 1536. Scores are kept for each world.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import ladder_worlds as worlds
from benchmarks import toy_scores
from benchmarks.peers import likelihoods, lorahub, selection
from lorajax.distillation import material, teacher
from lorajax.distillation.teacher import Answer
from lorajax.experiment import models
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.config import Experiment
from lorajax.models import Model, activations
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.training import train_adapters
from lorajax.types import Adapter, JsonDict

Side = tuple[Model, ChatFormat]
_POOL, _KEPT, _SEEDS, _SHARE = 96, 32, 8, 0.6


def _features(model: Model, chat: ChatFormat, prompts: Sequence[str]) -> np.ndarray:
    """Returns float[N, D], what the last layer of a model sees of prompts, in the mean."""
    tokens = [chat.encode_prompt(prompt) for prompt in prompts]
    positions = [np.arange(len(ids)) for ids in tokens]
    seen = activations.collect(model, tokens, positions).inputs['gate_proj'][-1]
    parts = np.split(seen, np.cumsum([len(ids) for ids in tokens])[:-1])
    return np.stack([part.mean(axis=0) for part in parts])


def _ends(chat: ChatFormat, answer: str, row: Encoded) -> np.ndarray:
    """Returns the character behind each token of an encoded answer; the end token's is the last."""
    text = chat.answer_text('', answer)
    found = chat.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in found['offset_mapping']]
    last = text.rindex(answer) + len(answer)
    known = np.minimum(ends[: len(row.answer)], last)
    return np.maximum.accumulate(np.pad(known, (0, len(row.answer) - len(known)), mode='edge'))


class _Said(NamedTuple):
    """What the source says to prompts for a task.

    Attributes:
      prompts: what it was asked.
      answers: with their losses; infinite where an answer was cut off.
      rows: both, in tokens of the source.
      adapted, bare: nats of each answer token, with the adapter and without.
    """

    prompts: Sequence[str]
    answers: Sequence[Answer]
    rows: list[Encoded]
    adapted: list[np.ndarray]
    bare: list[np.ndarray]


def _answers(
    source: Side, task: str, adapter: Adapter, prompts: Sequence[str], max_len: int
) -> Sequence[Answer]:
    """Lets the source answer."""
    return teacher.answer(
        *source, {task: adapter}, prompts=prompts, batch_size=_KEPT, max_len=max_len,
        max_new_tokens=8,
    )[task]  # fmt: skip


def _ask(source: Side, task: str, adapter: Adapter, prompts: Sequence[str], max_len: int) -> _Said:
    """Lets the source answer, and measures the answers."""
    model, chat = source
    answers = _answers(source, task, adapter, prompts, max_len)
    rows = material.encode_answers(chat, task, prompts, answers)
    losses = (
        selection.token_losses(model, one, rows, _KEPT, chat.pad_id) for one in (adapter, None)
    )
    return _Said(prompts, answers, rows, *losses)


def _certainty(answers: Sequence[Answer]) -> np.ndarray:
    """Returns float[N], higher where the teacher is surer."""
    return -np.array([answer.nll for answer in answers])


def _chosen(
    source: Side, said: _Said, of_task: Sequence[str], rng: np.random.Generator
) -> dict[str, list[int]]:
    """Returns which answers each way keeps; `of_task` are prompts of the task."""
    is_whole = np.isfinite([answer.nll for answer in said.answers])
    likeness = selection.likeness(_features(*source, of_task), _features(*source, said.prompts))
    scores = {
        'certainty': _certainty(said.answers),
        'excess': np.where(is_whole, selection.excess(said.adapted, said.bare), -np.inf),
        'likeness': np.where(is_whole, likeness, -np.inf),
        'random': np.where(is_whole, rng.random(len(is_whole)), -np.inf),
    }
    return {way: selection.best(values, _KEPT) for way, values in scores.items()}


def _by_tokens(
    said: _Said, ours: Sequence[Encoded], chats: Sequence[ChatFormat], chosen: Sequence[int]
) -> tuple[list[Encoded], list[Any]]:
    """Returns answers of which the tokens of the highest excess count, and their likelihoods.

    Args:
      said: what the source said, and its losses.
      ours: the same in tokens of the target.
      chats: of source and target.
      chosen: which of them.
    """
    filtered, wanted = [], []
    for i in chosen:
        ends, other = (
            _ends(chat, said.answers[i].text, row)
            for chat, row in zip(chats, (said.rows[i], ours[i]), strict=True)
        )
        carried = selection.carry(said.bare[i] - said.adapted[i], ends, other)
        mask = selection.token_targets(carried, _SHARE)
        filtered.append(dataclasses.replace(ours[i], is_target=mask))
        cut = likelihoods.chunks(ends, other)
        wanted.append(likelihoods.matched(ours[i], cut, said.adapted[i]))
    return filtered, wanted


def learned(experiment: Experiment) -> tuple[dict[str, dict[str, Adapter]], dict[str, list[float]]]:
    """Returns the adapters by task and way; and the share of its domain in what each way keeps."""
    sides, sources, start = worlds.translated(experiment)
    source = models.load_side(experiment, 'source')
    target, chat = models.load_side(experiment, 'target')
    by_domain = worlds.prompts_by_domain(experiment, 2 * _KEPT + _SEEDS)
    rows: dict[str, dict[str, list[Encoded]]] = {}
    made: dict[str, dict[str, Adapter]] = {task: {'map': start[task]} for task in sources}
    recipe = dataclasses.replace(experiment.train_config, num_epochs=30, batch_size=_KEPT)
    shares: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    for task, adapter in sources.items():
        domain = tasks_by_name.get(task).domain
        own = by_domain[domain]
        pool = worlds.chosen(by_domain, domain, 'mixed', _POOL)
        said = _ask(source, task, adapter, pool, experiment.max_len)
        near = _answers(source, task, adapter, own[: 2 * _KEPT], experiment.max_len)
        kept = _chosen(source, said, own[-_SEEDS:], rng)
        ours = material.encode_answers(chat, task, pool, said.answers)
        is_own = np.array([prompt in own for prompt in pool])
        for way, chosen in kept.items():
            shares.setdefault(way, []).append(float(is_own[chosen].mean()))
            rows.setdefault(way, {})[task] = [ours[i] for i in chosen]
        rows.setdefault('fresh', {})[task] = rows['excess'][task]
        of_kind = material.encode_answers(chat, task, own[: 2 * _KEPT], near)
        surest = selection.best(_certainty(near), _KEPT)
        rows.setdefault('own kind', {})[task] = [of_kind[i] for i in surest]
        filtered, wanted = _by_tokens(said, ours, (source[1], chat), kept['excess'])
        rows.setdefault('excess, tokens', {})[task] = filtered
        made[task]['likelihoods'] = likelihoods.train(
            target, wanted, recipe, start_from=start[task], pad_id=chat.pad_id
        )
        labelled = examples.encode(
            chat, examples.read(experiment.files.train_data(task))[:_KEPT], experiment.max_len, task
        )
        for count, rounds in ((_SEEDS, 12), (_KEPT, 3)):
            made[task][f'LoraHub, {count} labels'] = lorahub.compose(
                target, sides[1], labelled[:count], pad_id=chat.pad_id, rounds=rounds
            )
    for way, by_task in rows.items():
        trained = train_adapters(
            target, by_task, recipe, pad_id=chat.pad_id, label=way,
            start_from=None if way == 'fresh' else start,
        )  # fmt: skip
        for task, adapter in trained.items():
            made[task][way] = adapter
    return made, shares


def scores(root: pathlib.Path, name: str) -> JsonDict:
    """Returns the scores of a world."""
    experiment = worlds.make(root, name)
    made, shares = learned(experiment)
    loaded = models.load_side(experiment, 'target')
    tasks = toy_scores.of_heldouts(loaded, experiment, made)
    return {'world': name, 'tasks': tasks, 'own_domain': shares}


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    args = flags.FLAGS
    found = list(worlds.measured(pathlib.Path(args.workdir), args.worlds, 'peers', scores))
    print(toy_scores.table(found))
    for world in found:
        means = {way: round(float(np.mean(of)), 2) for way, of in world['own_domain'].items()}
        print(f'{world["world"]}, share of the own domain in what is kept: {means}')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where the worlds are', required=True)
    flags.DEFINE_list('worlds', ['demo'], 'which worlds')
    app.run(main)
