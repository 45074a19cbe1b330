"""Greedy decoding beside transformers and peft: `python -m benchmarks.decoding`.

A random Qwen2 (896 wide, 6 layers, vocabulary 32000, float32) with eight adapters of rank 8 on all
projections; prompts of 64 tokens, 64 new ones, no stop id. Each round runs ours, the peer and the
machine's matrix product (2048 x 2048, float32) in turn; the table has medians and, in brackets,
the least and the most.

- One adapter: 8 or 32 prompts.
- Eight adapters: 32 prompts each, 256 rows in one batch. The peer decodes one adapter after the
  other, a different one each round.

Rates are new tokens a second, reading the prompts included. "Step" is a decode step without them:
the time less that of a run of one new token, by 63. The limit is the rate at which the matrix
product would do the multiplications: of all tokens that are read and written, and of a step alone.
Both sides must say the same tokens.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import peft
import torch
import transformers

from lorajax import lora, models
from tests.models import reference

SHAPE = dict(
    vocab_size=32000, hidden_size=896, num_hidden_layers=6, num_attention_heads=14,
    num_key_value_heads=2, intermediate_size=4864, initializer_range=0.03,
)  # fmt: skip
PROMPT, NEW, ADAPTERS, RANK = 64, 64, 8, 8
CASES = ((1, 8), (1, 32), (ADAPTERS, 32))  # adapters, prompts


def random_adapter(config: models.ModelConfig, seed: int) -> dict:
    """An adapter of all projections, large enough to change what is said."""
    rng = np.random.default_rng(seed)
    depth = config.num_layers

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return {
        'layers': {
            name: {
                'a': normal(depth, fan_in, RANK, scale=fan_in**-0.5),
                'b': normal(depth, RANK, fan_out, scale=0.1),
            }
            for name, (fan_in, fan_out) in config.projections.items()
        }
    }


def timed(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Returns seconds and the result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def matrix_rate() -> float:
    """Returns multiplications and additions a second of a float32 product, best of three."""
    matrix = jnp.ones((2048, 2048))
    product = jax.jit(lambda x: x @ x)
    product(matrix).block_until_ready()
    seconds = min(timed(lambda: product(matrix).block_until_ready())[0] for _ in range(3))
    return 2 * 2048**3 / seconds


def spread(values: list[float], digits: int = 0) -> str:
    """Median, least and most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f'{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]'


def main() -> None:
    """Measures all cases and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--quick', action='store_true', help='one repetition')
    parser.add_argument('--cases', default='0,1,2', help='rows of the table, from 0')
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    cases = [CASES[int(index)] for index in arguments.cases.split(',')]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    transformers.logging.set_verbosity_error()
    print(f'{os.cpu_count()} cores, load averages {os.getloadavg()}', flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        base = reference.make(root / 'base', 'qwen2', **SHAPE)
        model = models.load_model(str(root / 'base'))
        adapters = [random_adapter(model.config, seed) for seed in range(ADAPTERS)]
        for index, adapter in enumerate(adapters):
            config = lora.LoraConfig(rank=RANK, alpha=RANK)
            lora.save_peft(root / str(index), config, adapter)
            if index == 0:
                peer = peft.PeftModel.from_pretrained(base, root / '0', adapter_name='0')
            else:
                peer.load_adapter(root / str(index), adapter_name=str(index))
        measure(model, adapters, peer.eval(), cases, repeats)


def measure(
    model: models.Model, adapters: list[dict], peer: torch.nn.Module, cases: list, repeats: int
) -> None:
    """Runs the cases in turn, `repeats` times, and prints their table."""
    tokens = np.random.default_rng(0).integers(3, SHAPE['vocab_size'], (32, PROMPT))
    tokens = tokens.astype(np.int32)

    def ours(count: int, prompts: int, new: int) -> np.ndarray:
        adapter = lora.stack(adapters) if count > 1 else adapters[0]
        output = model.generate(tokens[:prompts], adapter=adapter, max_new_tokens=new)
        return np.asarray(output).reshape(count, prompts, new)

    def theirs(adapter: int, prompts: int, new: int) -> np.ndarray:
        peer.set_adapter(str(adapter))
        wide = torch.tensor(tokens[:prompts]).long()
        with torch.no_grad():
            output = peer.generate(
                input_ids=wide, attention_mask=torch.ones_like(wide), max_new_tokens=new,
                min_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        return output[:, PROMPT:].numpy()

    for count, prompts in cases:  # compile
        for new in (1, NEW):
            seconds, _ = timed(lambda: ours(count, prompts, new))  # noqa: B023
            print(f'{count} x {prompts} x {new}: first call {seconds:.1f} s', flush=True)
    theirs(0, 8, 2)
    found: dict = {case: {'ours': [], 'step': [], 'peer': [], 'peer step': []} for case in cases}
    rates, same = [], {case: [] for case in cases}
    for turn in range(repeats):
        for case in cases:
            count, prompts = case
            rates.append(matrix_rate())
            short, _ = timed(lambda: ours(count, prompts, 1))  # noqa: B023
            whole, said = timed(lambda: ours(count, prompts, NEW))  # noqa: B023
            adapter = turn % count
            peer_short, _ = timed(lambda: theirs(adapter, prompts, 1))  # noqa: B023
            peer_whole, heard = timed(lambda: theirs(adapter, prompts, NEW))  # noqa: B023
            row = found[case]
            row['ours'].append(count * prompts * NEW / whole)
            row['step'].append(1e3 * (whole - short) / (NEW - 1))
            row['peer'].append(prompts * NEW / peer_whole)
            row['peer step'].append(1e3 * (peer_whole - peer_short) / (NEW - 1))
            same[case].append(float((said[adapter] == heard).all(axis=-1).mean()))
            print(f'{count} x {prompts}: ours {whole:.2f} s, peer {peer_whole:.2f} s', flush=True)
    print(f'matrix rate, GFLOP/s: {spread([rate / 1e9 for rate in rates])}')
    print(
        '| adapters x prompts | ours, tokens/s | peer, tokens/s | ratio | limit, tokens/s '
        '| share | step, ms | peer step, ms | limit, ms | same answers |\n'
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
    )
    rate = statistics.median(rates)
    unembedded = model.config.vocab_size * model.config.embed_dim
    layers = model.config.num_matmul_params - unembedded
    read = PROMPT + NEW - 1  # the last token is never read
    for (count, prompts), row in found.items():
        limit = rate / (2 * (layers * read / NEW + unembedded))
        step = 2e3 * count * prompts * model.config.num_matmul_params / rate
        ratios = [a / b for a, b in zip(row['ours'], row['peer'], strict=True)]
        print(
            f'| {count} x {prompts} | {spread(row["ours"])} | {spread(row["peer"])} '
            f'| {spread(ratios, 2)} | {limit:.0f} | {statistics.median(row["ours"]) / limit:.2f} '
            f'| {spread(row["step"])} | {spread(row["peer step"])} | {step:.0f} '
            f'| {min(same[count, prompts]):.2f} |'
        )


if __name__ == '__main__':
    main()
