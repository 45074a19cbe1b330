"""Greedy decoding beside transformers and peft: `python -m benchmarks.decoding`.

A random Qwen2 (896 wide, 6 layers, vocabulary 32000, float32) with eight adapters of rank 8 on all
projections; prompts of 64 tokens, 64 new ones, no stop id. Ours, the peer and the machine's matrix
product (2048 x 2048, float32) take turns; the table has medians and, in brackets, the least and
the most. `python -m benchmarks.speed` has these rows and all others.

- One adapter: 8 or 32 prompts.
- Eight adapters: 32 prompts each, 256 rows in one batch. The peer decodes one adapter after the
  other, a different one each round.

Rates are new tokens a second, reading the prompts included. The note has the time of a decode step
without them: the time less that of a run of one new token, by 63. The limit is the rate at which
the matrix product would do the multiplications of all tokens that are read and written. Both sides
must say the same tokens.
"""

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import peft
import torch
import transformers

from benchmarks import timing
from benchmarks.timing import Goal, Row
from lorajax import lora, models
from lorajax.types import Adapter
from tests.models import reference

SHAPE = dict(
    vocab_size=32000, hidden_size=896, num_hidden_layers=6, num_attention_heads=14,
    num_key_value_heads=2, intermediate_size=4864, initializer_range=0.03,
)  # fmt: skip
PROMPT, NEW, ADAPTERS, RANK = 64, 64, 8, 8
CASES = ((1, 8), (1, 32), (ADAPTERS, 32))  # adapters, prompts
GOALS = (Goal(1.3), Goal(1.5), Goal(3))


def timed(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Returns seconds and the result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


class Sides:
    """The same model and adapters on both sides."""

    def __init__(self, root: pathlib.Path) -> None:
        """Writes them below `root` and loads them."""
        base = reference.make(root / 'base', 'qwen2', **SHAPE)
        self.model = models.load_model(str(root / 'base'))
        config = self.model.config
        self.adapters: list[Adapter] = [
            timing.random_adapter(config.projections, config.num_layers, RANK, seed)
            for seed in range(ADAPTERS)
        ]
        for index, adapter in enumerate(self.adapters):
            lora.save_peft(root / str(index), lora.LoraConfig(rank=RANK, alpha=RANK), adapter)
            if index == 0:
                self.peer = peft.PeftModel.from_pretrained(base, root / '0', adapter_name='0')
            else:
                self.peer.load_adapter(root / str(index), adapter_name=str(index))
        self.peer.eval()
        self.tokens = (
            np.random.default_rng(0).integers(3, SHAPE['vocab_size'], (32, PROMPT)).astype(np.int32)
        )

    def ours(self, count: int, prompts: int, new: int) -> np.ndarray:
        """Decodes with the first `count` adapters: int32[count, prompts, new]."""
        adapter = lora.stack(self.adapters) if count > 1 else self.adapters[0]
        output = self.model.generate(self.tokens[:prompts], adapter=adapter, max_new_tokens=new)
        return np.asarray(output).reshape(count, prompts, new)

    def theirs(self, adapter: int, prompts: int, new: int) -> np.ndarray:
        """Decodes with one adapter: int[prompts, new]."""
        self.peer.set_adapter(str(adapter))
        wide = torch.tensor(self.tokens[:prompts]).long()
        with torch.no_grad():
            output = self.peer.generate(
                input_ids=wide, attention_mask=torch.ones_like(wide), max_new_tokens=new,
                min_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        return output[:, PROMPT:].numpy()


def measure(sides: Sides, count: int, prompts: int, goal: Goal, repetitions: int) -> Row:
    """Decodes with both sides in turn, and a matrix product after each pair."""
    compiling = sum(timed(lambda new=new: sides.ours(count, prompts, new))[0] for new in (1, NEW))
    sides.theirs(0, prompts, 2)
    config = sides.model.config
    unembedded = config.vocab_size * config.embed_dim
    layers = config.num_matmul_params - unembedded
    read = PROMPT + NEW - 1  # the last token is never read
    operations = 2 * (layers * read / NEW + unembedded)  # of a new token
    rates: dict[str, list[float]] = {'ours': [], 'theirs': [], 'limits': []}
    steps: dict[str, list[float]] = {'ours': [], 'theirs': []}
    same = []
    for turn in range(repetitions):
        adapter = turn % count
        short, _ = timed(lambda: sides.ours(count, prompts, 1))
        whole, said = timed(lambda: sides.ours(count, prompts, NEW))
        peer_short, _ = timed(lambda adapter=adapter: sides.theirs(adapter, prompts, 1))
        peer_whole, heard = timed(lambda adapter=adapter: sides.theirs(adapter, prompts, NEW))
        rates['ours'].append(count * prompts * NEW / whole)
        rates['theirs'].append(prompts * NEW / peer_whole)
        rates['limits'].append(timing.best_matrix_rate() / operations)
        steps['ours'].append(1e3 * (whole - short) / (NEW - 1))
        steps['theirs'].append(1e3 * (peer_whole - peer_short) / (NEW - 1))
        same.append(float((said[adapter] == heard).all(axis=-1).mean()))
    note = (
        f"a step {timing.spread(steps['ours'])} ms, the peer's {timing.spread(steps['theirs'])}; "
        f'same answers {min(same):.2f}; first calls {compiling:.0f} s'
    )
    name = f'decoding, {count} adapter{"s" * (count > 1)} x {prompts} prompts of 64 + 64'
    return Row(name, 'new tokens/s', goal=goal, note=note, **rates)


def rows(wanted: Sequence[int], repetitions: int) -> Iterator[Row]:
    """Measures some of `CASES`, given by their numbers."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        sides = Sides(pathlib.Path(temporary))
        for index in wanted:
            yield measure(sides, *CASES[index], GOALS[index], repetitions)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--cases', default='0,1,2', help='rows of the table, from 0')
    given = parser.parse_args()
    print(f'{timing.machine()}\n\n{timing.HEADER}', flush=True)
    for row in rows([int(index) for index in given.cases.split(',')], given.repetitions):
        print(row, flush=True)


if __name__ == '__main__':
    main()
