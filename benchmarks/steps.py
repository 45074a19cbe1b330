"""Training steps of both sides, one at a time: of lorajax, and of peft with torch's AdamW."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.timing import seconds
from lorajax.models import Model
from lorajax.tasks.batching import make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.training import TrainConfig
from lorajax.training.loop import make_plan
from lorajax.training.optimizer import make_optimizer
from lorajax.training.packing import length_of
from lorajax.training.state import init_state
from lorajax.training.step import make_train_step

Examples = Mapping[str, Sequence[Encoded]]


class Ours:
    """Steps of a group of adapters, as `train_adapters` takes them."""

    def __init__(self, model: Model, examples: Examples, config: TrainConfig) -> None:
        """Makes fresh adapters; nothing is compiled yet."""
        self.plan = make_plan(model, examples, config, 0)
        self.model, self.config = model, config
        self.state = init_state(model.config, config, list(examples), model.mesh)
        optimizer = make_optimizer(config)
        self.train_step = make_train_step(model.module, model.mesh, optimizer, config.targets)

    def warm_up(self) -> float:
        """Compiles the programs of all steps; returns the seconds."""
        first = {shape: step for step, shape in reversed(list(enumerate(self.plan.shapes)))}
        return seconds(lambda: [self.run(step) for step in first.values()])

    def run(self, step: int) -> None:
        """Takes a step."""
        self.state, losses = self.train_step(
            self.model.params, self.state, self.plan.pack(step), self.plan.rates[step],
            self.plan.scales(step), self.plan.blocking(step), self.plan.layout.num_pieces,
        )  # fmt: skip
        jax.block_until_ready((self.state, losses))

    def real_tokens(self, step: int) -> int:
        """Returns the tokens of a step's examples."""
        return sum(length_of(e) for task in self.plan.examples for e in self.plan.rows(task, step))

    def share(self, steps: Sequence[int]) -> float:
        """Returns the share of real tokens in what is computed."""
        real = sum(self.real_tokens(step) for step in steps)
        rows = self.plan.layout.num_rows
        return real / sum(rows * self.plan.shapes[step].tokens for step in steps)


class Peft:
    """Steps of one adapter on padded batches, as long as their longest row."""

    def __init__(
        self, directory: str, config: TrainConfig, device: str = 'cpu', dtype: str = 'float32'
    ) -> None:
        """Loads the model and adds a fresh adapter."""
        import peft
        import torch
        import transformers

        self.torch, self.device, self.config = torch, device, config
        base = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=getattr(torch, dtype)
        ).to(device)
        options = peft.LoraConfig(
            r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets)
        )
        self.model: Any = peft.get_peft_model(base, options)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=0.0)

    def run(self, rows: Sequence[Encoded]) -> None:
        """Takes a step."""
        batch = make_batch(rows, len(rows), *shape_of(rows), 0)
        labels = np.full(batch.tokens.shape, -100, np.int64)
        for row, example in enumerate(rows):
            labels[row, example.targets] = batch.tokens[row, example.targets]
        tokens, mask, labels = (
            self.torch.tensor(part.astype(np.int64), device=self.device)
            for part in (batch.tokens, batch.segment_ids, labels)
        )
        self.model(tokens, attention_mask=mask, labels=labels).loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device == 'cuda':
            self.torch.cuda.synchronize()


def drawn(rng: np.random.Generator, prompt: int, answer: int, vocabulary: int) -> Encoded:
    """Returns a random example of given lengths."""
    ids = rng.integers(3, vocabulary, prompt + answer).astype(np.int32)
    return Encoded(ids[:prompt], ids[prompt:])
