"""Prompts that the source model makes up itself: `python -m benchmarks.self_prompts --workdir=DIR`.

The toy's shipped models never learned to write prompts, as their loss counts answers alone. So they
are first trained on whole sequences, on as many steps as are asked for; then the adapters of a
world of `benchmarks.ladder` are trained on them, the source model with each held-out's adapter
writes prompts (`self_prompts`), and the ladder climbs with these alone. A killed call goes on where
it stopped.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging

from benchmarks import ladder as bench
from benchmarks import toy_worlds
from benchmarks.mapping_lab import check_world, gaps
from lorajax import io, toy
from lorajax.distillation import ladder, self_prompts
from lorajax.evaluation import evaluate as evaluation
from lorajax.experiment import models, pipeline
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.experiment.config import Experiment
from lorajax.models import Model, load_model
from lorajax.models.hf.export import save_params
from lorajax.models.loss import target_nll
from lorajax.tasks import examples
from lorajax.toy import pretrain, tokenizer, world
from lorajax.types import JsonDict, Params

COUNTS = (128, 512)  # prompts that are sampled
_ITEMS = 100
_END = 1  # token of `world.END`, behind which a sequence begins


def on_whole_sequences(
    model: Model, language: world.World, steps: int, seed: int, peak: float = 1e-3
) -> Params:
    """Trains all weights of a model on prompts and answers of a toy language."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, steps // 20, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98))

    @jax.jit
    def step(params: Params, state: optax.OptState, tokens: jax.Array):  # type: ignore[no-untyped-def]
        index = jnp.broadcast_to(jnp.arange(1, tokens.shape[1]), (len(tokens), tokens.shape[1] - 1))

        def loss(params: Params) -> jax.Array:
            mask, ones = jnp.ones(index.shape), jnp.ones_like(tokens)
            return target_nll(model.module, params, None, tokens, ones, index, mask).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params, rng = model.params, np.random.default_rng(seed)
    state = optimizer.init(params)
    for number in range(steps):
        rows = pretrain.batch(rng, language, 128)
        rows = np.concatenate([np.full((len(rows), 1), _END, np.int32), rows], axis=1)
        params, state, value = step(params, state, rows)
        if number % 50 == 0 or number == steps - 1:
            logging.info('step %d of %d: loss %.4f nats per token', number, steps, value)
    return params


def make(root: pathlib.Path, name: str, steps: int) -> Experiment:
    """Makes the models and the adapters of a world that are missing."""
    made = bench.WORLDS[name]
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
        with io.atomic_directory(directory) as partial:
            ids = {'eos_token_id': 1, 'pad_token_id': 0, 'bos_token_id': None}
            save_params(partial, pretrain.CONFIGS[side], params, extra_config=ids)
            tokenizer.save(partial)
            io.write_json(partial / 'generation_config.json', ids)
    experiment = dataclasses.replace(
        made, workdir=str(root / 'run'), stages=('prepare', 'train'), diagnostics=False, **names
    )
    pipeline.run(experiment)
    return experiment


def measure(root: pathlib.Path, name: str, steps: int) -> JsonDict:
    """Climbs with prompts that the source wrote itself; returns scores by held-out."""
    experiment = make(root, name, steps)
    result: JsonDict = {'world': 'self', 'trained': check_world(experiment, _ITEMS), 'tasks': {}}
    sides, sources, start = bench.translated(experiment)
    made = {task: {'map': start[task]} for task in sources}
    loaders = [functools.cache(functools.partial(models.load_side, experiment, s)) for s in SIDES]
    facts: JsonDict = {}
    own = bench.prompts_by_domain(experiment, 32)
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
    model, chat = loaders[1]()
    for task, adapters in made.items():
        rows = evaluation.evaluate(
            model, chat, tasks_by_name.get(task),
            examples.read(experiment.files.eval_data(task))[:_ITEMS],
            {'base': None, **adapters, 'oracle': load_trained(experiment, 'target', task)},
            batch_size=_ITEMS, max_len=experiment.max_len, max_new_tokens=8,
        )  # fmt: skip
        values: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            values.setdefault(row['method'], []).append((row['correct'], row['nll']))
        scores = {way: np.mean(pairs, 0).tolist() for way, pairs in values.items()}
        result['tasks'][task] = {'methods': scores}
    return dataclasses.asdict(_Result(result, facts))


@dataclasses.dataclass(frozen=True)
class _Result:
    """What is stored."""

    result: JsonDict
    facts: JsonDict


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
        cells = ['{:.3f} [{:.3f}, {:.3f}]'.format(*gaps([result], way, c)) for c in (0, 1)]
        print(f'| {way} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where models, adapters and scores are', required=True)
    flags.DEFINE_string('world', 'demo', 'of benchmarks.ladder')
    flags.DEFINE_integer('steps', 400, 'on whole sequences', lower_bound=20)
    app.run(main)
