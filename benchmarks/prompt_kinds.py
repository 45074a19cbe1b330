"""Which prompts are believed to be of an adapter's kind: `python -m benchmarks.prompt_kinds`.

    python -m benchmarks.prompt_kinds --workdir=DIR [--worlds=demo,f]

In each of the ladder's worlds every adapter of the source answers prompts of all domains. Then each
left-out anchor and each held-out is a new adapter whose answers are trusted or not (`trust`), from
prompts of its own domain, of another one, of both others, and of all three. The table says how many
sets are believed at all, and of mixtures which part of the own and of the other prompts, with all
anchors and with fewer. Writes `prompt_kinds.md`.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags, logging

from benchmarks import ladder_worlds
from lorajax import io
from lorajax.distillation import material, response, teacher, trust
from lorajax.experiment import models
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.experiment.config import Experiment

_PROMPTS = 32  # of each domain
_SIZES = (8, 32)
_ANCHORS = (None, 8, 4, 2)  # None for all


class World(NamedTuple):
    """What adapters make of the prompts of a domain; arrays by domain.

    Attributes:
      domains: of every adapter; the anchors come first.
      losses: float[adapters, N], of their answers on the source.
      energies: float[adapters, L, N, P], see `response.energies`.
      plain: float[adapters, N], of their answers on the bare target.
      paired: float[adapters, N], of the anchors' answers under their other adapter.
    """

    domains: list[str]
    losses: Mapping[str, np.ndarray]
    energies: Mapping[str, np.ndarray]
    plain: Mapping[str, np.ndarray]
    paired: Mapping[str, np.ndarray]


def answered(experiment: Experiment) -> World:
    """Lets all adapters of a world answer prompts of every domain."""
    tasks = [*experiment.anchors, *experiment.heldouts]
    by_domain = ladder_worlds.prompts_by_domain(experiment, _PROMPTS)
    of_source, of_target = ({t: load_trained(experiment, side, t) for t in tasks} for side in SIDES)
    model, chat = models.load_side(experiment, 'source')
    answers, energies = {}, {}
    for domain, prompts in by_domain.items():
        answers[domain] = teacher.answer(
            model, chat, of_source, prompts, batch_size=_PROMPTS, max_len=experiment.max_len,
            max_new_tokens=8,
        )  # fmt: skip
        texts = [teacher.encode(chat, prompt) for prompt in prompts]
        found = response.energies(model, of_source, texts)
        energies[domain] = np.stack([found[task] for task in tasks])
    model, chat = models.load_side(experiment, 'target')

    def losses(domain: str, with_pair: bool) -> np.ndarray:
        return np.stack([
            material.answer_losses(
                model, of_target[task] if with_pair else None,
                material.encode_answers(chat, task, by_domain[domain], answers[domain][task]),
                _PROMPTS, chat.pad_id,
            )
            for task in tasks
        ])  # fmt: skip

    return World(
        [tasks_by_name.get(task).domain for task in tasks],
        {d: np.array([[a.nll for a in of[t]] for t in tasks]) for d, of in answers.items()},
        energies,
        {domain: losses(domain, with_pair=False) for domain in by_domain},
        {domain: losses(domain, with_pair=True) for domain in by_domain},
    )


def sets(domains: Sequence[str], size: int) -> Iterator[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Yields a kind and the prompts of a set, as places in domains."""
    for start in range(0, _PROMPTS - size + 1, size):
        for domain in domains:
            yield 'one', [(domain, np.arange(start, start + size))]
            half = np.arange(start // 2, start // 2 + size // 2)
            yield 'two', [(other, half) for other in domains if other != domain]
        third = np.arange(start // 3, start // 3 + size // 3 + 1)
        yield 'all', [(domain, third) for domain in domains]


def believed(world: World, anchors: int, size: int, most: int | None, seed: int) -> dict[str, list]:
    """Returns shares of prompts that are believed, by kind of set, over adapters and sets."""
    rng = np.random.default_rng(seed)
    domains = sorted(world.losses)
    found: dict[str, list] = {}
    for kind, parts in sets(domains, size):
        of = np.concatenate([[domain] * len(places) for domain, places in parts])
        losses, plain, paired, energies = (
            np.concatenate([values[domain][..., places] for domain, places in parts], axis=-1)
            for values in (world.losses, world.plain, world.paired,
                           {d: np.moveaxis(e, 2, -1) for d, e in world.energies.items()})
        )  # fmt: skip
        by_index = dict(enumerate(np.moveaxis(energies, -1, 2)))
        for new, own in enumerate(world.domains):
            if kind == 'two' and own in of:
                continue
            others = [i for i in range(anchors) if i != new]
            known = rng.permutation(others)[:most].tolist()
            heard = response.relative(by_index, known)
            weights = trust.trust(
                trust.Signs(losses[new], heard[new]), plain[new],
                trust.Signs(losses[known], np.stack([heard[i] for i in known])), paired[known],
            ).weights  # fmt: skip
            if kind == 'all':
                found.setdefault('own of a mixture', []).append((weights[of == own] > 0).mean())
                found.setdefault('others of a mixture', []).append((weights[of != own] > 0).mean())
                continue
            name = {'two': 'two others', 'one': 'own' if own in of else 'one other'}[kind]
            found.setdefault(f'sets: {name}', []).append(weights.any())
    return found


_COLUMNS = ('sets: own', 'sets: one other', 'sets: two others', 'own of a mixture',
            'others of a mixture')  # fmt: skip


def table(worlds: Mapping[str, tuple[World, int]]) -> str:
    """Returns shares that are believed, over all worlds, and of the worst world in brackets."""
    lines = [
        '| anchors | prompts | ' + ' | '.join(_COLUMNS) + ' |',
        '| --- | ---: |' + ' ---: |' * len(_COLUMNS),
    ]
    for most in _ANCHORS:
        for size in _SIZES:
            each = [believed(world, count, size, most, 0) for world, count in worlds.values()]
            cells = []
            for column in _COLUMNS:
                means = [float(np.mean(found[column])) for found in each]
                worst = min(means) if 'own' in column else max(means)
                cells.append(f'{np.mean(means):.3f} ({worst:.3f})')
            lines.append(f'| {most or "all"} | {size} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str]) -> None:
    """Prints and writes the table."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    worlds = {}
    for name in args.worlds:
        logging.info('world %s', name)
        experiment = ladder_worlds.make(root, name)
        worlds[name] = answered(experiment), len(experiment.anchors)
    text = table(worlds)
    io.write_text(root / 'prompt_kinds.md', text)
    print(text, flush=True)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where worlds are kept', required=True)
    flags.DEFINE_list('worlds', list(ladder_worlds.WORLDS), 'which worlds')
    app.run(main)
