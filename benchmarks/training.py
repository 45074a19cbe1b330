"""LoRA training beside peft with torch's AdamW, and beside what the machine's matrix rate allows.

`python -m benchmarks.training [--quick] [--rows=step,gsm8k,...] [--data_dir=DIR]
[--story_model=DIR]` prints a Markdown table. Needs the [test] extra. Weights are random but for
the story model; DIR of the data holds gsm8k/train.jsonl[.gz]; rows without their files are left
out. Repetitions of the two sides alternate, so that what else the machine does falls on both.

The limit: 4 N operations a token, one product forwards and one backwards through N frozen
weights, at the rate of a product of two 2048 x 2048 float32 matrices, the better of torch and
JAX, taken at the beginning of each row of the table.
"""

import argparse
import dataclasses
import gzip
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peft
import tokenizers
import torch
import transformers

from lorajax import lora, models
from lorajax.models import Model
from lorajax.models.config import ModelConfig
from lorajax.models.hf.export import save_params
from lorajax.tasks.batching import make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.toy.pretrain import CONFIGS
from lorajax.training import TrainConfig
from lorajax.training.loop import make_plan
from lorajax.training.optimizer import make_optimizer
from lorajax.training.packing import length_of
from lorajax.training.state import init_state
from lorajax.training.step import make_train_step

QWEN = ModelConfig(
    family='qwen2', num_layers=6, embed_dim=896, num_heads=14, num_kv_heads=2, head_dim=64,
    mlp_dim=4864, norm_eps=1e-6, rope_theta=1e6, qkv_bias=True, vocab_size=32000,
    tie_embeddings=True, max_positions=1024,
)  # fmt: skip
RECIPE = TrainConfig(num_epochs=1, batch_size=8, targets=lora.TARGETS)
Examples = Mapping[str, Sequence[Encoded]]


def matrix_rate(size: int = 2048, repetitions: int = 5) -> float:
    """Returns floating-point operations a second of a product of two matrices."""
    ours = jnp.ones((size, size))
    theirs = torch.ones((size, size))
    product = jax.jit(jnp.matmul)
    best = np.inf
    for _ in range(repetitions):
        for run in (lambda: product(ours, ours).block_until_ready(), lambda: theirs @ theirs):
            best = min(best, seconds(run))
    return 2 * size**3 / best


def seconds(run: Callable[[], Any]) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Ours:
    """Steps of a group of adapters, as `train_adapters` takes them."""

    def __init__(self, model: Model, examples: Examples, config: TrainConfig) -> None:
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
            self.config.scale, self.plan.shapes[step].lookback, self.plan.layout.num_pieces,
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
    """Steps of one adapter on padded batches."""

    def __init__(self, directory: str, config: TrainConfig) -> None:
        base = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        options = peft.LoraConfig(
            r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets)
        )
        self.model = peft.get_peft_model(base, options)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=0.0)
        self.config = config

    def run(self, rows: Sequence[Encoded]) -> None:
        """Takes a step on a batch as long as its longest row."""
        batch = make_batch(rows, len(rows), *shape_of(rows), 0)
        labels = np.full(batch.tokens.shape, -100, np.int64)
        for row, example in enumerate(rows):
            labels[row, example.targets] = batch.tokens[row, example.targets]
        self.model(
            torch.tensor(batch.tokens.astype(np.int64)),
            attention_mask=torch.tensor(batch.segment_ids),
            labels=torch.tensor(labels),
        ).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()


def spread(values: Sequence[float], digits: str = '.2f') -> str:
    """Returns the median and the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f'{middle:{digits}} [{low:{digits}}, {high:{digits}}]'


def row(name: str, unit: str, theirs: Any, ours: Any, limit: float | None, less_is_more: bool,
        note: str = '') -> None:  # fmt: skip
    """Prints a row of the table."""
    pairs = list(zip(theirs, ours, strict=True))
    ratios = [a / b if less_is_more else b / a for a, b in pairs]
    middle = statistics.median(ours)
    share = '' if limit is None else f'{limit / middle if less_is_more else middle / limit:.2f}'
    print(
        f'| {name}, {unit} | {spread(theirs)} | {spread(ours)} | {spread(ratios)} | {share} | '
        f'{note} |', flush=True,
    )  # fmt: skip


def alternate(ours: Ours, theirs: Peft, repetitions: int) -> tuple[list[float], list[float]]:
    """Returns seconds of peft's steps, on the first adapter's rows, and of ours."""
    task = next(iter(ours.plan.examples))
    theirs.run(ours.plan.rows(task, 0))
    taken: tuple[list[float], list[float]] = ([], [])
    for step in range(1, repetitions + 1):
        rows = ours.plan.rows(task, step)
        taken[0].append(seconds(lambda rows=rows: theirs.run(rows)))
        taken[1].append(seconds(lambda step=step: ours.run(step)))
    return taken


def drawn(rng: np.random.Generator, prompt: int, answer: int, vocabulary: int) -> Encoded:
    """Returns a random example of given lengths."""
    ids = rng.integers(3, vocabulary, prompt + answer).astype(np.int32)
    return Encoded(ids[:prompt], ids[prompt:])


def full_step(directory: str, repetitions: int) -> None:
    """All of 8 x 256 tokens are targets."""
    rng, rate = np.random.default_rng(0), matrix_rate()
    model = models.load_model(directory)
    rows = [drawn(rng, 1, 255, 32000) for _ in range(8 * (repetitions + 1))]
    ours = Ours(model, {'t': rows}, RECIPE)
    note = f'compiling {ours.warm_up():.0f} s; matrix rate {rate / 1e9:.0f} GFLOP/s'
    theirs, mine = alternate(ours, Peft(directory, RECIPE), repetitions)
    limit = 4 * QWEN.num_params * 2048 / rate
    row('LoRA step, 8 x 256 tokens, all targets', 's', theirs, mine, limit, True, note)


def gsm8k(directory: str, rows: Sequence[Encoded], repetitions: int) -> None:
    """Rows of uneven length, one adapter and eight."""
    rng, rate = np.random.default_rng(0), matrix_rate()
    model = models.load_model(directory)
    many = [rows[i] for i in rng.permutation(len(rows))]
    ours = Ours(model, {'t': many[: 8 * (repetitions + 1)]}, RECIPE)
    compiling, steps = ours.warm_up(), range(1, repetitions + 1)
    theirs, mine = alternate(ours, Peft(directory, RECIPE), repetitions)
    real = [ours.real_tokens(step) for step in steps]
    # A whole training has all its steps to choose shapes for.
    whole = Ours(model, {'t': many[:1600]}, RECIPE)
    eight = Ours(model, {f't{i}': many[i::8] for i in range(8)}, RECIPE)
    shares = [
        f'{plan.share(range(len(plan.plan.rates))):.3f} ({len(set(plan.plan.shapes))} shapes)'
        for plan in (whole, eight)
    ]
    row(
        'GSM8K rows, batch 8', 'real tokens/s',
        [n / s for n, s in zip(real, theirs, strict=True)],
        [n / s for n, s in zip(real, mine, strict=True)],
        rate / (4 * QWEN.num_params), False,
        f'real share in 200 steps of 1 adapter {shares[0]}, of 8 adapters {shares[1]}; '
        f'compiling {compiling:.0f} s',
    )  # fmt: skip


def toy(directory: str, repetitions: int) -> None:
    """Toy-size adapters, 22 in a step."""
    config = dataclasses.replace(RECIPE, batch_size=32, rank=4)
    rng, rate = np.random.default_rng(0), matrix_rate()
    model = models.load_model(directory)
    tasks = {
        f't{i}': [drawn(rng, 8, 5, 119) for _ in range(32 * (repetitions + 1))] for i in range(22)
    }
    ours = Ours(model, tasks, config)
    compiling = ours.warm_up()
    theirs, mine = alternate(ours, Peft(directory, config), repetitions)
    limit = 1e3 * 4 * model.config.num_params * 32 * 13 / rate
    row(
        '22 toy adapters x 32 rows of 13 tokens', 'ms per adapter',
        [1e3 * s for s in theirs], [1e3 * s / 22 for s in mine], limit, True,
        f'compiling {compiling:.0f} s',
    )  # fmt: skip


def story(directory: str, repetitions: int) -> None:
    """Eight adapters on a published model of 260 thousand parameters, uneven rows."""
    config = dataclasses.replace(RECIPE, batch_size=16, rank=8)
    rng, rate = np.random.default_rng(0), matrix_rate()
    model = models.load_model(directory)

    def rows() -> list[Encoded]:
        sizes = [(33, 32) if i % 16 == 0 else tuple(rng.integers(5, 25, 2)) for i in range(count)]
        return [drawn(rng, int(p), int(a), 512) for p, a in sizes]

    count = 16 * (repetitions + 1)
    ours = Ours(model, {f't{i}': rows() for i in range(8)}, config)
    compiling = ours.warm_up()
    theirs, mine = alternate(ours, Peft(directory, config), repetitions)
    steps = range(1, repetitions + 1)
    real = statistics.mean(ours.real_tokens(step) for step in steps) / 8
    row(
        '8 adapters x 16 rows of up to 65 tokens, 260 k parameters', 'ms per adapter',
        [1e3 * s for s in theirs], [1e3 * s / 8 for s in mine],
        1e3 * 4 * model.config.num_params * real / rate, True,
        f'real share {ours.share(steps):.3f}; compiling {compiling:.0f} s',
    )  # fmt: skip


def from_file(directory: str, texts: Sequence[dict[str, str]], repetitions: int) -> None:
    """Whole commands, as a user starts them: many rows less few, so that loading cancels."""
    many, few = 48, 16
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    speeds: dict[str, list[float]] = {'peft': [], 'lorajax': []}
    for repetition in range(repetitions):
        start = repetition * many
        taken: dict[tuple[str, int], float] = {}
        with tempfile.TemporaryDirectory() as temporary:
            for count in (many, few):
                path = pathlib.Path(temporary, f'{count}.jsonl')
                chosen = texts[start : start + count]
                path.write_text(''.join(json.dumps(text) + '\n' for text in chosen))
                commands = {
                    'peft': [sys.executable, '-m', 'benchmarks.training', f'--peft_on={path}',
                             f'--model={directory}'],
                    'lorajax': [
                        sys.executable, '-m', 'lorajax.launch', 'train', f'--model={directory}',
                        f'--train_file={path}', f'--output={temporary}/{count}', '--num_epochs=1',
                        '--param_dtype=float32', '--dtype=float32', '--remat=none',
                        '--compilation_cache=none',
                    ],
                }  # fmt: skip
                for side, command in commands.items():
                    taken[side, count] = seconds(
                        lambda command=command: subprocess.run(
                            command, check=True, stdout=subprocess.DEVNULL
                        )
                    )
        ids = [
            tokenizer(t['prompt'] + '\n' + t['completion'])['input_ids']
            for t in texts[start + few : start + many]
        ]
        real = sum(len(row) + 1 for row in ids)
        for side, values in speeds.items():
            values.append(real / (taken[side, many] - taken[side, few]))
    row(
        f'`train --train_file`, {many} rows less {few}', 'real tokens/s', speeds['peft'],
        speeds['lorajax'], None, False, 'without a compilation cache',
    )  # fmt: skip


def peft_on(path: str, directory: str) -> None:
    """Trains one adapter with peft on a file, an epoch in batches of 8."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    rows = []
    for line in pathlib.Path(path).read_text().splitlines():
        text = json.loads(line)
        prompt, answer = (
            np.array(tokenizer(part)['input_ids'], np.int32)
            for part in (text['prompt'] + '\n', text['completion'])
        )
        rows.append(Encoded(prompt, np.append(answer, tokenizer.eos_token_id).astype(np.int32)))
    trained = Peft(directory, RECIPE)
    order = np.random.default_rng(0).permutation(len(rows))
    for start in range(0, len(rows), 8):
        trained.run([rows[i] for i in order[start : start + 8]])
    with tempfile.TemporaryDirectory() as temporary:
        trained.model.save_pretrained(temporary)


def gsm8k_texts(data_dir: pathlib.Path) -> list[dict[str, str]]:
    """Returns prompts and completions."""
    path = min((data_dir / 'gsm8k').glob('train.jsonl*'))
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == '.gz' else content).splitlines()
    rows = map(json.loads, lines)
    return [{'prompt': row['question'], 'completion': row['answer']} for row in rows]


def write_model(directory: pathlib.Path, config: ModelConfig, texts: Sequence[str]) -> str:
    """Writes a random model, with a byte-level BPE of 16 thousand pieces if there are texts."""
    directory.mkdir()
    model = models.random_model(config, jax.random.key(0))
    save_params(directory, config, model.params, extra_config={'eos_token_id': 0})
    if texts:
        backend = tokenizers.Tokenizer(tokenizers.models.BPE())
        backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=16000, special_tokens=['<end>'], show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        backend.train_from_iterator(texts, trainer)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token='<end>', pad_token='<end>'
        ).save_pretrained(directory)
    return str(directory)


def encode(directory: str, texts: Sequence[dict[str, str]]) -> list[Encoded]:
    """Returns rows in tokens, the answer with its end."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    prompts = tokenizer([text['prompt'] + '\n' for text in texts])['input_ids']
    answers = tokenizer([text['completion'] for text in texts])['input_ids']
    return [
        Encoded(np.array(p, np.int32), np.array([*a, tokenizer.eos_token_id], np.int32))
        for p, a in zip(prompts, answers, strict=True)
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--rows', default='step,gsm8k,toy,story,file')
    parser.add_argument('--quick', action='store_true', help='two repetitions instead of five')
    parser.add_argument('--data_dir', type=pathlib.Path)
    parser.add_argument('--story_model')
    parser.add_argument('--peft_on', help=argparse.SUPPRESS)
    parser.add_argument('--model', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peft_on:
        peft_on(arguments.peft_on, arguments.model)
        return
    wanted, repetitions = arguments.rows.split(','), 2 if arguments.quick else 5
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        texts = gsm8k_texts(arguments.data_dir) if arguments.data_dir else []
        if {'step', 'gsm8k', 'file'} & set(wanted):
            joined = [text['prompt'] + '\n' + text['completion'] for text in texts]
            qwen = write_model(root / 'qwen', QWEN, joined)
        libraries = ', '.join(f'{lib.__name__} {lib.__version__}' for lib in (jax, torch, peft))
        print(f'{platform.machine()}, {os.cpu_count()} cores; {libraries}\n')
        print('| work | peft | lorajax | ratio | share of the limit | |')
        print('| --- | ---: | ---: | ---: | ---: | --- |', flush=True)
        if 'step' in wanted:
            full_step(qwen, repetitions)
        if 'gsm8k' in wanted and texts:
            gsm8k(qwen, encode(qwen, texts), repetitions)
        if 'toy' in wanted:
            toy(write_model(root / 'toy', CONFIGS['source'], []), 4 * repetitions)
        if 'story' in wanted and arguments.story_model:
            story(arguments.story_model, 2 * repetitions)
        if 'file' in wanted and texts:
            from_file(qwen, texts, 1)
    print(f'\n{time.monotonic() - start:.0f} s')


if __name__ == '__main__':
    main()
