"""The same LoRA training in peft with torch's AdamW, and how far two trainings are apart."""

import dataclasses
import json
import math
import pathlib
import tempfile
import types

import jax
import numpy as np
import peft
import torch
import transformers

from lorajax import lora, sharding
from lorajax.lora.config import module_name
from lorajax.tasks.batching import make_batch, shape_of
from lorajax.training import MetricWriter, train_adapters
from lorajax.training.plan import TrainPlan
from lorajax.training.state import init_state


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training's outcome.

    Attributes:
      losses: float[steps], nats per target token.
      adapter: the tree, scale folded into `b`.
    """

    losses: np.ndarray
    adapter: dict


def rates(config, num_steps):
    """The learning rate of each step, from the recipe's words: warm-up, then the schedule.

    Step t of N stands at (t + 1) / (N + 1) of the training where there is a warm-up, else at
    t / N.
    """
    offset = 1 if config.warmup_ratio else 0
    values = []
    for step in range(num_steps):
        place = (step + offset) / (num_steps + offset)
        if place < config.warmup_ratio:
            share = place / config.warmup_ratio
        else:
            rest = (place - config.warmup_ratio) / (1 - config.warmup_ratio)
            share = {'constant': 1.0, 'linear': 1 - rest,
                     'cosine': 0.5 * (1 + math.cos(math.pi * rest))}[config.schedule]  # fmt: skip
        values.append(config.learning_rate * share)
    return values


def with_lorajax(model, examples, config):
    """Trains one adapter here; the losses are those that the metrics file holds."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / 'metrics.jsonl'
        trained = train_adapters(
            model, {'t': examples}, config, pad_id=0, metrics=MetricWriter(path), metrics_every=1
        )
        losses = [json.loads(line)['loss'][0] for line in path.read_text().splitlines()]
    return Trained(np.array(losses), trained['t'])


def with_peft(directory, shape, examples, config, dtype=torch.float32):
    """Trains the same adapter in peft and torch.

    Args:
      directory: the base model.
      shape: its ModelConfig.
      examples: as for `with_lorajax`; batches are drawn as there.
      config: a TrainConfig.
      dtype: of everything. In float64 the norms, which transformers computes in float32 whatever
        the model's dtype, are replaced. The angles of RoPE stay float32: they are the model's
        definition, and at such short positions exact to 1e-6.
    """
    base = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    if dtype == torch.float64:
        for module in base.modules():
            if type(module).__name__.endswith('RMSNorm'):
                module.forward = types.MethodType(_rms_norm, module)
    options = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets)
    )
    wrapped = peft.get_peft_model(base, options).to(dtype)
    named = dict(wrapped.named_parameters())
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    start = lora.unstack(init_state(shape, config, ['t'], mesh).adapters)[0]
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
    plan = TrainPlan({'t': examples}, config, 1, pad_id=0)
    losses = []
    for step, rate in enumerate(rates(config, int(plan.num_steps[0]))):
        rows = plan.rows('t', step)
        batch = make_batch(rows, config.batch_size, *shape_of(rows), pad_id=0)
        labels = np.full(batch.tokens.shape, -100, np.int64)
        for row, example in enumerate(rows):
            labels[row, example.targets] = batch.tokens[row, example.targets]
        labels = torch.tensor(labels)
        out = wrapped(
            torch.tensor(batch.tokens.astype(np.int64)),
            attention_mask=torch.tensor(batch.segment_ids),
        )
        # Not the model's own loss, which rounds logits to float32 before it.
        loss = torch.nn.functional.cross_entropy(
            out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, config.max_grad_norm)
        for group in optimizer.param_groups:
            group['lr'] = rate
        optimizer.step()
        losses.append(loss.item())

    def stack(name, factor):
        layers = [factors[name, factor, i].detach().numpy().T for i in range(shape.num_layers)]
        return np.stack(layers) * (config.scale if factor == 'b' else 1.0)

    adapter = {'layers': {n: {f: stack(n, f) for f in 'ab'} for n in start['layers']}}
    return Trained(np.array(losses), adapter)


def _rms_norm(self, hidden):
    """`forward` of a transformers RMSNorm without its casts to float32."""
    mean_square = hidden.pow(2).mean(-1, keepdim=True)
    return self.weight * (hidden * torch.rsqrt(mean_square + self.variance_epsilon))


def differences(actual, expected):
    """How far two trainings are apart.

    Returns:
      'losses': norm of the difference of all steps' losses over the norm; 'a' and 'b': the same
      of each projection's stack of factors, of the worst projection.
    """

    def relative(left, right):
        return float(np.linalg.norm(left - right) / np.linalg.norm(right))

    result = {'losses': relative(actual.losses, expected.losses)}
    for factor in 'ab':
        result[factor] = max(
            relative(actual.adapter['layers'][name][factor], entry[factor])
            for name, entry in expected.adapter['layers'].items()
        )
    return result
