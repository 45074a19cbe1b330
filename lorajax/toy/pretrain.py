"""Makes the two base models of the toy world: `python -m lorajax.toy.pretrain --output=DIR`.

The result is what ships in `lorajax/toy/checkpoints`: two decoders of different families,
widths and depths in HF format, with a tokenizer that `transformers` loads.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from lorajax import io
from lorajax.models import random_model
from lorajax.models.config import ModelConfig, RopeScaling
from lorajax.models.hf.export import save_params
from lorajax.tasks.batching import Batch
from lorajax.toy import tokenizer, world
from lorajax.training import all_weights
from lorajax.types import Params

# Untied: with tied embeddings of this width training stalls at 1.32 nats per token, knowing the
# answer's symbols but not their places.
_COMMON: dict[str, Any] = {
    'vocab_size': tokenizer.backend().get_vocab_size(),
    'tie_embeddings': False,
    'max_positions': 64,
}
CONFIGS = {
    'source': ModelConfig(
        family='qwen2', num_layers=4, embed_dim=64, num_heads=4, num_kv_heads=2, head_dim=16,
        mlp_dim=256, norm_eps=1e-6, rope_theta=1e4, qkv_bias=True, **_COMMON,
    ),
    'target': ModelConfig(
        family='llama', num_layers=3, embed_dim=96, num_heads=6, num_kv_heads=2, head_dim=16,
        mlp_dim=384, norm_eps=1e-5, rope_theta=1e4,
        rope_scaling=RopeScaling(8.0, 1.0, 4.0, 32), **_COMMON,
    ),
}  # fmt: skip
TAG_DROP = 0.3


def batch(rng: np.random.Generator, toy: world.World, size: int) -> np.ndarray:
    """Returns int32[size, 13] token sequences of random functions and inputs."""
    symbols = rng.integers(world.SYMBOLS_PER_DOMAIN, size=(size, world.LENGTH))
    choice = rng.integers(len(toy.functions), size=size)
    knows = rng.random((size, 2)) >= TAG_DROP
    rows = []
    for row, index in enumerate(choice):
        function = toy.functions[index]
        prompt = function.prompt(symbols[row], bool(knows[row, 0]), bool(knows[row, 1]))
        answer = ' '.join(function.words(function.apply(symbols[row])))
        rows.append(tokenizer.encode(f'{prompt} {world.SEPARATOR} {answer}{world.END}'))
    return np.array(rows, np.int32)


def of_answers(tokens: np.ndarray) -> Batch:
    """Returns int32[B, 13] sequences as a batch whose targets are the answers with their ends."""
    index = np.arange(tokens.shape[1] - world.LENGTH - 1, tokens.shape[1], dtype=np.int32)
    index = np.broadcast_to(index, (len(tokens), len(index)))
    return Batch(tokens, np.ones_like(tokens), index, np.ones(index.shape, np.float32))


def pretrain(
    config: ModelConfig,
    toy: world.World,
    seed: int,
    steps: int,
    batch_size: int,
    peak: float,
    start: Params | None = None,
) -> Params:
    """Returns the weights of a base model trained on all functions of a world.

    Args:
      config: its shapes.
      toy: the world.
      seed: of weights and batches.
      steps: of the optimizer.
      batch_size: sequences in each.
      peak: of the learning rate's schedule.
      start: weights to go on from; they are given away. None for fresh ones.
    """
    model = random_model(config, jax.random.key(seed))
    rng = np.random.default_rng(seed)
    batches = (of_answers(batch(rng, toy, batch_size)) for _ in range(steps))
    params = model.params if start is None else start
    optimizer = all_weights.make_optimizer(steps, peak)
    return all_weights.train(model.module, params, batches, steps, optimizer)


def write_model(
    directory: pathlib.Path,
    side: str,
    toy: world.World,
    *,
    seed: int,
    steps: int,
    batch_size: int = 128,
    peak: float = 3e-3,
) -> None:
    """Pretrains the base model of a side and writes it in HF format; see `pretrain`.

    Args:
      directory: to write.
      side: 'source' or 'target'.
      toy: the world whose language is learned.
      seed: of weights and batches.
      steps: of AdamW.
      batch_size: sequences a step.
      peak: the highest learning rate.
    """
    offset = list(CONFIGS).index(side)
    params = pretrain(CONFIGS[side], toy, seed + offset, steps, batch_size, peak)
    save(directory, CONFIGS[side], params)


def save(directory: pathlib.Path, config: ModelConfig, params: Params) -> None:
    """Writes a base model of the toy world in HF format, with its tokenizer."""
    with io.atomic_directory(directory) as partial:
        ids = {'eos_token_id': 1, 'pad_token_id': 0, 'bos_token_id': None}
        save_params(partial, config, params, extra_config=ids)
        tokenizer.save(partial)
        io.write_json(partial / 'generation_config.json', ids)


def main(argv: Sequence[str]) -> None:
    """Pretrains and writes the models that the flags ask for."""
    del argv
    args = flags.FLAGS
    toy = world.World(tuple(int(s) for s in args.shifts), args.split_seed)
    for side in args.sides:
        write_model(
            pathlib.Path(args.output) / side,
            side,
            toy,
            seed=args.seed,
            steps=args.steps,
            batch_size=args.batch_size,
            peak=args.learning_rate,
        )


if __name__ == '__main__':
    flags.DEFINE_string('output', None, 'directory that gets source/ and target/', required=True)
    flags.DEFINE_list('sides', ['source', 'target'], 'which models to make')
    flags.DEFINE_list('shifts', ['1', '3', '5', '7'], 'shifts of the world')
    flags.DEFINE_integer('split_seed', 0, 'decides anchors and held-outs')
    flags.DEFINE_integer('seed', 1, 'of weights and batches')
    flags.DEFINE_integer('steps', 2000, 'optimizer steps', lower_bound=1)
    flags.DEFINE_integer('batch_size', 128, 'sequences per step', lower_bound=1)
    flags.DEFINE_float('learning_rate', 3e-3, 'peak of the schedule', lower_bound=0.0)
    app.run(main)
