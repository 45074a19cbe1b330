"""Makes the base models of a text world: `python -m lorajax.text.pretrain --output=DIR ...`.

Two decoders of different families, widths, depths and tokenizers, in HF format; `PAIRS` has what
there is to choose from: two small ones, and a large one, of two and three million parameters, for
quiet cores. Whole sequences are learned, packed into rows; a document sees nothing of the others in
its row. On shared cores begin the command with `taskset -c 0`: the threads of a step wait for the
slowest.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from tokenizers import Tokenizer

from lorajax import io
from lorajax.models import random_model
from lorajax.models.config import ModelConfig
from lorajax.models.hf.export import save_params
from lorajax.tasks.batching import Batch
from lorajax.tasks.data import DataSource
from lorajax.tasks.task import RowSource
from lorajax.text import corpus, tokenizer
from lorajax.training import all_weights
from lorajax.types import Params

_COMMON: dict[str, Any] = {'tie_embeddings': True, 'max_positions': 256, 'rope_theta': 1e4}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the models of a pair are made.

    Attributes:
      configs: side -> shapes; the vocabulary is the tokenizer's size.
      seed: of weights and order; the second side's is one more.
      steps: of the optimizer.
      batch_size: rows in each.
      length: tokens of a row.
      peak: of the learning rate's schedule.
      practice: share of tokens that are practice.
      told: share of the practice with a format behind a text, see `corpus.practice`.
      listed: share of the practice with words to choose from.
    """

    configs: Mapping[str, ModelConfig]
    seed: int
    steps: int
    batch_size: int
    length: int
    peak: float
    practice: float
    told: float
    listed: float = 0.0


PAIRS = {
    'first': Recipe(
        configs={
            'source': ModelConfig(
                family='qwen2', vocab_size=1024, num_layers=4, embed_dim=64, num_heads=4,
                num_kv_heads=2, head_dim=16, mlp_dim=160, norm_eps=1e-6, qkv_bias=True, **_COMMON,
            ),
            'target': ModelConfig(
                family='llama', vocab_size=1536, num_layers=3, embed_dim=80, num_heads=5,
                num_kv_heads=5, head_dim=16, mlp_dim=208, norm_eps=1e-5, **_COMMON,
            ),
        },
        seed=1, steps=500, batch_size=16, length=128, peak=5e-3, practice=0.3, told=0.0,
    ),
    'second': Recipe(
        configs={
            'source': ModelConfig(
                family='qwen3', vocab_size=1280, num_layers=3, embed_dim=96, num_heads=3,
                num_kv_heads=3, head_dim=32, mlp_dim=240, norm_eps=1e-6, qk_norm=True, **_COMMON,
            ),
            'target': ModelConfig(
                family='qwen2', vocab_size=896, num_layers=5, embed_dim=72, num_heads=3,
                num_kv_heads=1, head_dim=24, mlp_dim=184, norm_eps=1e-6, qkv_bias=True, **_COMMON,
            ),
        },
        seed=11, steps=500, batch_size=32, length=64, peak=5e-3, practice=0.4, told=0.4,
    ),
    'large': Recipe(
        configs={
            'source': ModelConfig(
                family='qwen3', vocab_size=1024, num_layers=6, embed_dim=160, num_heads=5,
                num_kv_heads=5, head_dim=32, mlp_dim=432, norm_eps=1e-6, qk_norm=True, **_COMMON,
            ),
            'target': ModelConfig(
                family='llama', vocab_size=2048, num_layers=7, embed_dim=192, num_heads=6,
                num_kv_heads=2, head_dim=32, mlp_dim=512, norm_eps=1e-5, **_COMMON,
            ),
        },
        seed=21, steps=3000, batch_size=64, length=64, peak=3e-3, practice=0.4, told=0.0,
        listed=0.4,
    ),
}  # fmt: skip
_PAD_ID, _END_ID = 0, 1


def rows_of(
    streams: Sequence[Iterator[list[int]]], shares: Sequence[float], length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields packed rows without end.

    Args:
      streams: documents as token ids, without end.
      shares: of the tokens that come from each stream.
      length: tokens of a row.

    Yields:
      int32[length] tokens and int32[length] numbers of the documents in the row; a document that
      is longer than what is left of a row is cut there.
    """
    given = np.zeros(len(streams))
    while True:
        tokens: list[int] = []
        numbers: list[int] = []
        number = 0
        while len(tokens) < length:
            turn = int(np.argmin(given / np.asarray(shares)))
            document = next(streams[turn])[: length - len(tokens)]
            given[turn] += len(document)
            number += 1
            tokens += document
            numbers += [number] * len(document)
        yield np.array(tokens, np.int32), np.array(numbers, np.int32)


def of_documents(tokens: np.ndarray, numbers: np.ndarray) -> Batch:
    """Returns rows as a batch whose targets are all tokens but the first of each document.

    Args:
      tokens: int32[B, T].
      numbers: int32[B, T], of the documents in each row, from 1 on.
    """
    index = np.broadcast_to(np.arange(1, tokens.shape[1], dtype=np.int32), tokens[:, 1:].shape)
    mask = (numbers[:, 1:] == numbers[:, :-1]).astype(np.float32)
    return Batch(tokens, numbers, index, mask)


def _encoded(backend: Tokenizer, texts: Iterator[str]) -> Iterator[list[int]]:
    """Yields token ids with the token of the end, some hundred texts at a time."""
    while True:
        for encoding in backend.encode_batch(list(itertools.islice(texts, 256))):
            yield [*encoding.ids, _END_ID]


def _shuffled(texts: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Yields all texts in one order after the other."""
    while True:
        for index in rng.permutation(len(texts)):
            yield f' {texts[index]}'


def pretrain(rows: RowSource, recipe: Recipe, side: str) -> tuple[Params, Tokenizer]:
    """Returns the weights and the tokenizer of the base model of a side."""
    config, seed = recipe.configs[side], recipe.seed + list(recipe.configs).index(side)
    rng = np.random.default_rng(seed)
    texts = list(corpus.documents(rows))
    practised = corpus.practice(rows, rng, recipe.told, recipe.listed)
    some = [texts[i] for i in rng.permutation(len(texts))[:8000]]
    backend = tokenizer.train(
        itertools.chain((f' {text}' for text in some), itertools.islice(practised, 4000)),
        config.vocab_size,
    )
    streams = [_encoded(backend, _shuffled(texts, rng)), _encoded(backend, practised)]
    packed = rows_of(streams, (1 - recipe.practice, recipe.practice), recipe.length)
    batches = (
        of_documents(*map(np.stack, zip(*itertools.islice(packed, recipe.batch_size), strict=True)))
        for _ in range(recipe.steps)
    )
    model = random_model(config, jax.random.key(seed))
    optimizer = all_weights.make_optimizer(recipe.steps, recipe.peak, recipe.peak / 20)
    params = all_weights.train(model.module, model.params, batches, recipe.steps, optimizer)
    return params, backend


def save(directory: pathlib.Path, config: ModelConfig, params: Params, backend: Tokenizer) -> None:
    """Writes a base model in HF format, with its tokenizer."""
    with io.atomic_directory(directory) as partial:
        ids = {'eos_token_id': _END_ID, 'pad_token_id': _PAD_ID, 'bos_token_id': None}
        save_params(partial, config, params, extra_config=ids)
        tokenizer.save(backend, partial)
        io.write_json(partial / 'generation_config.json', ids)


def main(argv: Sequence[str]) -> None:
    """Pretrains and writes the models that the flags ask for, if they are not there."""
    del argv
    args = flags.FLAGS
    rows, recipe = DataSource(args.data_dir), PAIRS[args.pair]
    if args.steps:
        recipe = dataclasses.replace(recipe, steps=args.steps)
    for side, config in recipe.configs.items():
        directory = pathlib.Path(args.output) / side
        if side in args.sides and not directory.exists():
            save(directory, config, *pretrain(rows, recipe, side))


if __name__ == '__main__':
    flags.DEFINE_string('output', None, 'directory that gets source/ and target/', required=True)
    flags.DEFINE_string('data_dir', None, 'data sets as <name>/<split>.jsonl', required=True)
    flags.DEFINE_enum('pair', 'first', list(PAIRS), 'which pair of models to make')
    flags.DEFINE_multi_enum('sides', ['source', 'target'], ['source', 'target'], 'which of the two')
    flags.DEFINE_integer('steps', 0, "optimizer steps; the pair's own if 0", lower_bound=0)
    app.run(main)
