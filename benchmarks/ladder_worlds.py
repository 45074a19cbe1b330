"""The worlds of the ladder: base models, adapters and prompts, made once and kept.

Beside `toy_worlds`, whose pairs are pretrained, these are other anchors, held-outs and adapters on
the shipped models. Prompts are rows on which the held-outs' adapters were not trained; nobody reads
their answers.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from benchmarks import toy_worlds
from benchmarks.toy_worlds import Spec
from lorajax import io, mapping
from lorajax.experiment import models, pipeline
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.experiment.config import Experiment
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.toy import world as toy_world
from lorajax.types import Adapter

METHOD = 'matched_scaled'  # that translates


def on_shipped_models(split_seed: int, **settings: Any) -> Experiment:
    """Returns a run of other anchors, held-outs and adapters on the shipped models."""
    anchors, heldouts = toy_world.World(split_seed=split_seed).split()
    return Experiment(
        anchors=tuple(function.task for function in anchors),
        heldouts=tuple(function.task for function in heldouts),
        **settings,
    )


# Seeds of f, g and h are the digits of commit c29244dc563c57ee4104d061, four at a time, which froze
# code and constants before there were these worlds.
WORLDS: Mapping[str, Experiment | Spec] = {
    'demo': Experiment(),
    'f': on_shipped_models(split_seed=0xC292, seed=0x44DC),
    'g (separate A)': on_shipped_models(split_seed=0x563C, seed=0x57EE, separate_init=True),
    'h': Spec('h', (1, 2, 4, 8), split_seed=0x4104, model_seed=0xD061, seed=0x4104),
    # Those of i to n are the digits of commit a4154019733884760b93c3fb15434bd15d842d98 in the same
    # way, which froze the rule of trust.
    'm': on_shipped_models(split_seed=0x5D84, seed=0x2D98),
    'i': Spec('i', (1, 3, 5, 7), split_seed=0xA415, model_seed=0x4019, seed=0xA415),
    'j': Spec('j', (2, 4, 6, 8), split_seed=0x7338, model_seed=0x8476, seed=0x7338),
    'n (separate A)': on_shipped_models(split_seed=0x2D98, seed=0x5D84, separate_init=True),
    # Those of o to q are digits of commit e29adc1600a6233ad5a343fb77488986311ccc44, which added the
    # other six and changed nothing else.
    'o': on_shipped_models(split_seed=0xE29A, seed=0xDC16),
    'p (separate A)': on_shipped_models(split_seed=0x00A6, seed=0x233A, separate_init=True),
    'q': on_shipped_models(split_seed=0xD5A3, seed=0x43FB),
    # Digits of commit 43caf91086a4, when the other worlds on shipped models were done.
    'r': on_shipped_models(split_seed=0x43CA, seed=0xF910),
    # Those of s to v are digits of commit c64720597aad7d240fab173a3099719c89bf62a0, in which the
    # rung has twice the anchors' rank.
    's': on_shipped_models(split_seed=0xC647, seed=0x2059),
    't (separate A)': on_shipped_models(split_seed=0x7AAD, seed=0x7D24, separate_init=True),
    'u': on_shipped_models(split_seed=0x0FAB, seed=0x173A),
    'v': Spec('v', (1, 3, 6, 8), split_seed=0x3099, model_seed=0x719C, seed=0x3099),
    # Those of w to y are digits of commit 1f06f4496d917fd978a773f297de83bd10d86a97, which trusts
    # prompts one by one.
    'w': on_shipped_models(split_seed=0x1F06, seed=0xF449),
    'x (separate A)': on_shipped_models(split_seed=0x6D91, seed=0x7FD9, separate_init=True),
    'y': on_shipped_models(split_seed=0x78A7, seed=0x73F2),
    'k': Spec('k', (3, 4, 7, 9), split_seed=0x0B93, model_seed=0xC3FB, seed=0x0B93),
    'l (separate A)': Spec(
        'l', (1, 2, 4, 8), split_seed=0x1543, model_seed=0x4BD1, seed=0x1543, separate_init=True
    ),
}


def make(root: pathlib.Path, name: str) -> Experiment:
    """Makes a world if need be; a killed call goes on where it stopped."""
    made = WORLDS[name]
    if isinstance(made, Spec):
        made = toy_worlds.pretrain_missing(root, made)
    experiment = dataclasses.replace(
        made, workdir=str(root / name.split()[0]), stages=('prepare', 'train'), diagnostics=False
    )
    pipeline.run(experiment)
    return experiment


def prompts_by_domain(experiment: Experiment, count: int) -> dict[str, list[str]]:
    """Returns prompts of every domain on which no held-out's adapter of it was trained."""
    prompts = {}
    for task in experiment.heldouts:
        domain = tasks_by_name.get(task).domain
        seen = {
            row.prompt
            for other in experiment.heldouts
            if tasks_by_name.get(other).domain == domain
            for row in examples.read(experiment.files.train_data(other))
        }
        rows = tasks_by_name.get(task).pools(None, 'direct').train
        prompts[domain] = [row.prompt for row in rows if row.prompt not in seen][:count]
    return prompts


def chosen(by_domain: Mapping[str, Sequence[str]], own: str, kind: str, count: int) -> list[str]:
    """Returns prompts of a kind, as seen from one domain, the domains in turn."""
    others = sorted(set(by_domain) - {own})
    domains = {
        'own': [own], 'mixed': sorted(by_domain), 'other': others,
        'one other': [d for d in others if d > own][:1] or others[:1],
    }[kind]  # fmt: skip
    return [by_domain[domains[i % len(domains)]][i // len(domains)] for i in range(count)]


Adapters = dict[str, Adapter]  # by task


def translated(experiment: Experiment) -> tuple[list[Adapters], Adapters, Adapters]:
    """Returns the anchors of both sides, the held-outs' source adapters and their translations."""
    sides = [
        {task: load_trained(experiment, side, task) for task in experiment.anchors}
        for side in SIDES
    ]
    fitted = mapping.fit(METHOD, *sides)
    sources = {task: load_trained(experiment, 'source', task) for task in experiment.heldouts}
    start = {task: fitted.predict(adapter) for task, adapter in sources.items()}
    return sides, sources, start


def measured(
    root: pathlib.Path, names: Sequence[str], kind: str, measure: Callable[[pathlib.Path, str], Any]
) -> Iterator[Any]:
    """Yields what is measured in each world; kept in `root`, so a killed call goes on where it was.

    Args:
      root: directory of the worlds.
      names: of worlds.
      kind: begins the names of the files.
      measure: of `root` and a name.
    """
    for name in names:
        logging.info('world %s', name)
        path = root / f'{kind}_{name.split()[0]}.json'
        if not path.exists():
            io.write_json(path, measure(root, name))
        yield io.read_json(path)


def loaders(experiment: Experiment) -> list[Callable[[], tuple[Model, ChatFormat]]]:
    """Returns what loads the source and the target, each once."""
    return [functools.cache(functools.partial(models.load_side, experiment, s)) for s in SIDES]


def labels(experiment: Experiment, task: str, count: int) -> Callable[[ChatFormat], list[Encoded]]:
    """Returns what encodes the first labelled rows of a task, as `climb` asks for them."""
    rows = examples.read(experiment.files.train_data(task))[:count]
    return lambda chat: examples.encode(chat, rows, experiment.max_len, task)
