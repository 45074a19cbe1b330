"""Makes the base models of a text world: `python -m lorajax.text.pretrain --output=DIR ...`.

Two decoders of different families, widths, depths and tokenizers, in HF format. Whole sequences
are learned, packed into rows; a document sees nothing of the others in its row.
"""

import functools
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging
from tokenizers import Tokenizer

from lorajax import io
from lorajax.models import random_model
from lorajax.models.config import ModelConfig
from lorajax.models.hf.export import save_params
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.tasks.data import DataSource
from lorajax.tasks.task import RowSource
from lorajax.text import corpus, tokenizer
from lorajax.types import Params

_COMMON: dict[str, Any] = {'tie_embeddings': True, 'max_positions': 256, 'rope_theta': 1e4}
CONFIGS = {
    'source': ModelConfig(
        family='qwen2', vocab_size=1024, num_layers=4, embed_dim=64, num_heads=4, num_kv_heads=2,
        head_dim=16, mlp_dim=160, norm_eps=1e-6, qkv_bias=True, **_COMMON,
    ),
    'target': ModelConfig(
        family='llama', vocab_size=1536, num_layers=3, embed_dim=80, num_heads=5, num_kv_heads=5,
        head_dim=16, mlp_dim=208, norm_eps=1e-5, **_COMMON,
    ),
}  # fmt: skip
_PAD_ID, _END_ID = 0, 1
LENGTH = 128  # tokens of a row
_PRACTICE_SHARE = 0.3  # of the documents' tokens


def rows_of(
    streams: Sequence[Iterator[list[int]]], shares: Sequence[float]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields packed rows without end.

    Args:
      streams: documents as token ids, without end.
      shares: of the tokens that come from each stream.

    Yields:
      int32[LENGTH] tokens and int32[LENGTH] numbers of the documents in the row; a document that
      is longer than what is left of a row is cut there.
    """
    given = np.zeros(len(streams))
    while True:
        tokens: list[int] = []
        numbers: list[int] = []
        number = 0
        while len(tokens) < LENGTH:
            turn = int(np.argmin(given / np.asarray(shares)))
            document = next(streams[turn])[: LENGTH - len(tokens)]
            given[turn] += len(document)
            number += 1
            tokens += document
            numbers += [number] * len(document)
        yield np.array(tokens, np.int32), np.array(numbers, np.int32)


@functools.partial(jax.jit, static_argnames=('module', 'optimizer'), donate_argnums=(2, 3))
def train_step(
    module: Transformer,
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    tokens: jax.Array,
    numbers: jax.Array,
) -> tuple[Params, optax.OptState, jax.Array]:
    """Takes one step on every token of int32[B, T] rows but the first of each document."""
    index = jnp.broadcast_to(jnp.arange(1, tokens.shape[1]), (len(tokens), tokens.shape[1] - 1))
    mask = (numbers[:, 1:] == numbers[:, :-1]).astype(jnp.float32)

    def loss(params: Params) -> jax.Array:
        nll = target_nll(module, params, None, tokens, numbers, index, mask)
        return nll.sum() / mask.sum()

    value, grads = jax.value_and_grad(loss)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value


@functools.cache
def make_optimizer(steps: int, peak: float) -> optax.GradientTransformation:
    """Returns AdamW with a rise and a cosine; one object for equal arguments, as it is static."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, steps // 20, steps, peak / 20)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01)
    )


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


def pretrain(
    rows: RowSource, config: ModelConfig, *, seed: int, steps: int, batch_size: int, peak: float
) -> tuple[Params, Tokenizer]:
    """Returns the weights and the tokenizer of a base model.

    Args:
      rows: the data.
      config: shapes; its vocabulary is the tokenizer's size.
      seed: of weights and of the order.
      steps: of the optimizer.
      batch_size: rows in each.
      peak: of the learning rate's schedule.
    """
    rng = np.random.default_rng(seed)
    texts = list(corpus.documents(rows))
    practised = corpus.practice(rows, rng)
    some = [texts[i] for i in rng.permutation(len(texts))[:8000]]
    backend = tokenizer.train(
        itertools.chain((f' {text}' for text in some), itertools.islice(practised, 4000)),
        config.vocab_size,
    )
    streams = [_encoded(backend, _shuffled(texts, rng)), _encoded(backend, practised)]
    packed = rows_of(streams, (1 - _PRACTICE_SHARE, _PRACTICE_SHARE))
    model = random_model(config, jax.random.key(seed))
    optimizer = make_optimizer(steps, peak)
    params, opt_state = model.params, optimizer.init(model.params)
    for step in range(steps):
        tokens, numbers = map(np.stack, zip(*itertools.islice(packed, batch_size), strict=True))
        params, opt_state, value = train_step(
            model.module, optimizer, params, opt_state, tokens, numbers
        )
        if step % 50 == 0 or step == steps - 1:
            logging.info('step %d of %d: loss %.4f nats per token', step, steps, value)
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
    rows = DataSource(args.data_dir)
    for offset, side in enumerate(CONFIGS):
        directory = pathlib.Path(args.output) / side
        if side not in args.sides or directory.exists():
            continue
        made = pretrain(
            rows, CONFIGS[side], seed=args.seed + offset, steps=args.steps,
            batch_size=args.batch_size, peak=args.learning_rate,
        )  # fmt: skip
        save(directory, CONFIGS[side], *made)


if __name__ == '__main__':
    flags.DEFINE_string('output', None, 'directory that gets source/ and target/', required=True)
    flags.DEFINE_string('data_dir', None, 'data sets as <name>/<split>.jsonl', required=True)
    flags.DEFINE_list('sides', list(CONFIGS), 'which models to make')
    flags.DEFINE_integer('seed', 1, 'of weights and order')
    flags.DEFINE_integer('steps', 500, 'optimizer steps', lower_bound=1)
    flags.DEFINE_integer('batch_size', 16, 'rows of 128 tokens per step', lower_bound=1)
    flags.DEFINE_float('learning_rate', 5e-3, 'peak of the schedule', lower_bound=0.0)
    app.run(main)
