"""The same LoRA training in peft with torch's AdamW, and how far two trainings are apart."""

import dataclasses
import math

import jax
import numpy as np
import peft
import torch
import transformers

from lorajax import lora
from lorajax.lora.config import module_name
from lorajax.tasks.batching import make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.training import loop


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training's outcome.

    Attributes:
      losses: float[steps], nats per target token.
      adapter: the tree, scale folded into `b`.
    """

    losses: np.ndarray
    adapter: dict


def make_examples(seed, count, vocab, prompts=(3, 9), answers=(1, 5)):
    """Random prompts and answers of uneven lengths."""
    rng = np.random.default_rng(seed)

    def ids(low, high):
        return rng.integers(3, vocab, rng.integers(low, high)).astype(np.int32)

    return [Encoded(ids(*prompts), ids(*answers)) for _ in range(count)]


def rates(config, num_steps):
    """The learning rate of each step, from the recipe's words: warm-up, then the schedule.

    Step t of N stands at (t + 1) / (N + 1) of the training where there is a warm-up, else at
    t / N.
    """
    offset = 1 if config.warmup_ratio else 0
    found = []
    for step in range(num_steps):
        place = (step + offset) / (num_steps + offset)
        if place < config.warmup_ratio:
            share = place / config.warmup_ratio
        else:
            rest = (place - config.warmup_ratio) / (1 - config.warmup_ratio)
            share = {'constant': 1.0, 'linear': 1 - rest,
                     'cosine': 0.5 * (1 + math.cos(math.pi * rest))}[config.schedule]  # fmt: skip
        found.append(config.learning_rate * share)
    return found


def with_lorajax(model, examples, config):
    """Trains one adapter here; every step's loss is read before it is rounded for the metrics."""
    losses = []

    class Window(loop._Window):
        def add(self, batch, loss):
            losses.append(float(loss[0]))
            super().add(batch, loss)

    original, loop._Window = loop._Window, Window
    try:
        trained = loop.train_adapters(model, {'t': examples}, config, pad_id=0)['t']
    finally:
        loop._Window = original
    return Trained(np.array(losses), jax.tree.map(np.asarray, trained))


def with_peft(directory, shape, examples, config, dtype=torch.float32):
    """Trains the same adapter in peft and torch.

    Args:
      directory: the base model.
      shape: its ModelConfig.
      examples: as for `with_lorajax`; batches are drawn as there.
      config: a TrainConfig.
      dtype: of everything. transformers computes norms and RoPE in float32 even in a float64
        model, so float64 is not exact, but free of most rounding: it tells how far rounding
        alone takes a training in float32.
    """
    base = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    options = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets)
    )
    wrapped = peft.get_peft_model(base, options).to(dtype)
    named = dict(wrapped.named_parameters())
    start = lora.unstack(jax.tree.map(np.asarray, loop.init_state(shape, config, ['t']).adapters))[
        0
    ]
    factors = {}
    for name, entry in start['layers'].items():
        for layer in range(shape.num_layers):
            for factor, part in (('a', 'lora_A'), ('b', 'lora_B')):
                path = f'base_model.model.{module_name(name, layer)}.{part}.default.weight'
                factors[name, factor, layer] = named[path]
                named[path].data.copy_(torch.tensor(entry[factor][layer].T.copy()))
    trainable = [p for p in wrapped.parameters() if p.requires_grad]
    assert len(trainable) == len(factors)
    optimizer = torch.optim.AdamW(
        trainable, lr=config.learning_rate, weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2), eps=config.epsilon,
    )  # fmt: skip
    plan = loop._Plan({'t': examples}, config)
    losses = []
    for step, rate in enumerate(rates(config, int(plan.num_steps[0]))):
        rows = plan.rows('t', step)
        batch = make_batch(rows, config.batch_size, *shape_of(rows), pad_id=0)
        labels = np.full(batch.tokens.shape, -100, np.int64)
        for row, example in enumerate(rows):
            labels[row, example.targets] = batch.tokens[row, example.targets]
        out = wrapped(
            torch.tensor(batch.tokens.astype(np.int64)),
            attention_mask=torch.tensor(batch.segment_ids),
            labels=torch.tensor(labels),
        )
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, config.max_grad_norm)
        for group in optimizer.param_groups:
            group['lr'] = rate
        optimizer.step()
        losses.append(out.loss.item())
    scale = config.alpha / config.rank

    def stack(name, factor):
        layers = [factors[name, factor, i].detach().numpy().T for i in range(shape.num_layers)]
        return np.stack(layers) * (scale if factor == 'b' else 1.0)

    adapter = {'layers': {n: {f: stack(n, f) for f in 'ab'} for n in start['layers']}}
    return Trained(np.array(losses), adapter)


def differences(actual, expected):
    """How far two trainings are apart.

    Returns:
      'losses': largest relative difference of a step's loss; for 'a' and 'b' the largest
      difference over the largest value of each projection's stack, and 'a by norm' and
      'b by norm' the norm of the difference over the norm; always of the worst projection.
    """
    found = {'losses': float(np.abs(actual.losses / expected.losses - 1).max())}
    for factor in 'ab':
        largest, norms = [], []
        for name, entry in expected.adapter['layers'].items():
            error = actual.adapter['layers'][name][factor] - entry[factor]
            largest.append(np.abs(error).max() / np.abs(entry[factor]).max())
            norms.append(np.linalg.norm(error) / np.linalg.norm(entry[factor]))
        found[factor], found[f'{factor} by norm'] = float(max(largest)), float(max(norms))
    return found
