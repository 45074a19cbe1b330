"""Prompts that the source model makes up itself: `python -m benchmarks.self_prompts --workdir=DIR`.

The toy's shipped models never learned to write prompts, as their loss counts answers alone. So they
are first trained on whole sequences, on as many steps as are asked for; then the adapters of a
world of `benchmarks.ladder_worlds` are trained on them, the source model with the adapter of each
held-out writes prompts (`self_prompts`), and the ladder climbs with these alone. A killed call goes
on where it stopped.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from benchmarks import ladder_worlds as worlds
from benchmarks import toy_scores, toy_worlds
from lorajax import io, toy
from lorajax.distillation import ladder, self_prompts
from lorajax.experiment import pipeline
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.models import Model, load_model
from lorajax.tasks.batching import Batch
from lorajax.text.pretrain import of_documents
from lorajax.toy import pretrain, world
from lorajax.training import all_weights
from lorajax.types import JsonDict, Params

COUNTS = (128, 512)  # prompts that are sampled
_ITEMS = 100
_END = 1  # token of `world.END`, behind which a sequence begins


def on_whole_sequences(
    model: Model, language: world.World, steps: int, seed: int, peak: float = 1e-3
) -> Params:
    """Trains all weights of a model on prompts and answers of a toy language."""
    rng = np.random.default_rng(seed)

    def rows() -> Batch:
        tokens = pretrain.batch(rng, language, 128)
        tokens = np.concatenate([np.full((len(tokens), 1), _END, np.int32), tokens], axis=1)
        return of_documents(tokens, np.ones_like(tokens))

    optimizer = all_weights.make_optimizer(steps, peak, decay=1e-4)
    batches = (rows() for _ in range(steps))
    return all_weights.train(model.module, model.params, batches, steps, optimizer)


def make(root: pathlib.Path, name: str, steps: int) -> Experiment:
    """Makes the models and the adapters of a world that are missing."""
    made = worlds.WORLDS[name]
    language = world.DEFAULT
    if isinstance(made, toy_worlds.Spec):
        language = world.World(made.shifts, made.split_seed)
        made = toy_worlds.pretrain_missing(root, made)
    names = {}
    for side in SIDES:
        directory = root / 'models' / side
        names[f'{side}_model'] = str(directory)
        if directory.exists():
            continue
        known = made.source_model if side == 'source' else made.target_model
        bare = load_model(str(toy.MODELS.get(known, known)))
        params = on_whole_sequences(bare, language, steps, seed=1)
        pretrain.save(directory, pretrain.CONFIGS[side], params)
    experiment = dataclasses.replace(
        made, workdir=str(root / 'run'), stages=('prepare', 'train'), diagnostics=False, **names
    )
    pipeline.run(experiment)
    return experiment


def measure(root: pathlib.Path, name: str, steps: int) -> JsonDict:
    """Climbs with prompts that the source wrote itself; returns scores by held-out."""
    experiment = make(root, name, steps)
    result: JsonDict = {'world': 'self', 'trained': toy_worlds.check(experiment, _ITEMS)}
    sides, sources, start = worlds.translated(experiment)
    made = {task: {'map': start[task]} for task in sources}
    loaders = worlds.loaders(experiment)
    facts: JsonDict = {}
    own = worlds.prompts_by_domain(experiment, 32)
    for task, source in sources.items():
        domain = tasks_by_name.get(task).domain
        ways = {'own, 32': own[domain]}
        for count in COUNTS:
            model, chat = loaders[0]()
            sampled = self_prompts.sample(model, chat, source, count, max_new_tokens=8)
            answered = self_prompts.select(
                model, chat, source, sampled, 32,
                batch_size=64, max_len=experiment.max_len, max_new_tokens=8,
            )  # fmt: skip
            ways[f'self, best 32 of {count}'] = list(answered)
            is_own = [p.startswith(f'{domain} ? ?') for p in answered]
            facts[f'{task}, {count}'] = {
                'sampled': len(sampled), 'different': len(set(sampled)),
                'of its kind': float(np.mean([p.startswith(f'{domain} ? ?') for p in sampled])),
                'of its kind, kept': float(np.mean(is_own)) if is_own else None,
                'examples': list(answered)[:4],
            }  # fmt: skip
            logging.info('%s', facts[f'{task}, {count}'])
        for way, prompts in ways.items():
            if not prompts:
                made[task][way] = start[task]
                continue
            reached = ladder.climb(
                *loaders, ladder.Anchors(*sides), {task: source}, {task: start[task]}, prompts,
                ladder.Limits(32, experiment.max_len, 8),
            )[task]  # fmt: skip
            made[task][way] = reached.adapter
            facts[f'{task}, {way}'] = {'rung': reached.rung, 'losses': dict(reached.losses)}
            logging.info('%s, %s: %s', task, way, facts[f'{task}, {way}'])
    result['tasks'] = toy_scores.of_heldouts(loaders[1](), experiment, made, _ITEMS)
    return {'result': result, 'facts': facts}


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    root = pathlib.Path(flags.FLAGS.workdir)
    stored = root / 'self_prompts.json'
    if not stored.exists():
        io.write_json(stored, measure(root, flags.FLAGS.world, flags.FLAGS.steps))
    result = io.read_json(stored)['result']
    print('| prompts | gap recovered, accuracy | gap recovered, NLL |\n| --- | --- | --- |')
    for way in next(iter(result['tasks'].values()))['methods']:
        print(f'| {way} | ' + ' | '.join(toy_scores.cells([result], way)) + ' |')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where models, adapters and scores are', required=True)
    flags.DEFINE_string('world', 'demo', 'of benchmarks.ladder_worlds')
    flags.DEFINE_integer('steps', 400, 'on whole sequences', lower_bound=20)
    app.run(main)
