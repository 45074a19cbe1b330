"""LoRA training beside peft with torch's AdamW, and beside what the machine's matrix rate allows.

`python -m benchmarks.training [--rows=step,gsm8k,...] [--repetitions=5] [--data_dir=DIR]
[--story_model=DIR]` prints a Markdown table; `python -m benchmarks.speed` has these rows and all
others. Needs the [test] extra. Weights are random but for the story model; DIR of the data holds
gsm8k/train.jsonl[.gz]; rows without their files are left out. Ours, peft and the machine take
turns, so that what else the machine does falls on all. Rates are of real tokens: filling does not
count. Peft trains one of the adapters where there are several.

The limit: 4 N operations a token, one product forwards and one backwards through N frozen
weights, at the rate of a product of two 2048 x 2048 float32 matrices, the better of torch and JAX.
"""

import argparse
import dataclasses
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

import jax
import numpy as np
import tokenizers
import transformers

from benchmarks import timing
from benchmarks.steps import Examples, Ours, Peft, drawn
from benchmarks.timing import Goal, Row, seconds
from lorajax import lora, models
from lorajax.models.config import ModelConfig
from lorajax.models.hf.export import save_params
from lorajax.tasks.chat import Encoded
from lorajax.toy.pretrain import CONFIGS
from lorajax.training import TrainConfig
from lorajax.training.packing import length_of

QWEN = ModelConfig(
    family='qwen2', num_layers=6, embed_dim=896, num_heads=14, num_kv_heads=2, head_dim=64,
    mlp_dim=4864, norm_eps=1e-6, rope_theta=1e6, qkv_bias=True, vocab_size=32000,
    tie_embeddings=True, max_positions=1024,
)  # fmt: skip
RECIPE = TrainConfig(num_epochs=1, batch_size=8, targets=lora.TARGETS)
ROWS = ('step', 'gsm8k', 'toy', 'story', 'file')
_MANY, _FEW = 40, 8  # rows of the two files whose times are subtracted


@dataclasses.dataclass(frozen=True)
class Case:
    """Steps that both sides take.

    Attributes:
      work: what the table calls it.
      goal: what it should reach, if there is a goal.
      directory: of the model.
      examples: of each adapter; the peer trains the first.
      config: the recipe.
      repetitions: steps that are timed.
      whole: examples of whole trainings, whose share of real tokens the note has.
    """

    work: str
    goal: Goal | None
    directory: str
    examples: Examples
    config: TrainConfig
    repetitions: int
    whole: Sequence[Examples] = ()


def measure(case: Case) -> Row:
    """Takes the steps of both sides in turn, and a matrix product after each pair."""
    model = models.load_model(case.directory)
    ours, theirs = Ours(model, case.examples, case.config), Peft(case.directory, case.config)
    first = next(iter(case.examples))
    compiling = ours.warm_up()
    theirs.run(ours.plan.rows(first, 0))
    rates: dict[str, list[float]] = {'ours': [], 'theirs': [], 'limits': []}
    taken = []
    for step in range(1, case.repetitions + 1):
        rows = ours.plan.rows(first, step)
        peers = seconds(lambda rows=rows: theirs.run(rows))
        rates['theirs'].append(sum(map(length_of, rows)) / peers)
        taken.append(seconds(lambda step=step: ours.run(step)))
        rates['ours'].append(ours.real_tokens(step) / taken[-1])
        rates['limits'].append(timing.best_matrix_rate() / (4 * model.config.num_params))
    notes = [f'a step {timing.spread(taken)} s', f'compiling {compiling:.0f} s']
    for examples in case.whole:
        plan = Ours(model, examples, case.config)
        share, shapes = plan.share(range(len(plan.plan.rates))), len(set(plan.plan.shapes))
        notes.append(
            f'real share in {len(plan.plan.rates)} steps of {len(examples)} adapters '
            f'{share:.3f} ({shapes} shapes)'
        )
    return Row(case.work, 'real tokens/s', goal=case.goal, note='; '.join(notes), **rates)


def full_step(directory: str, repetitions: int) -> Case:
    """All of 8 x 256 tokens are targets."""
    rng = np.random.default_rng(0)
    rows = [drawn(rng, 1, 255, 32000) for _ in range(8 * (repetitions + 1))]
    name = 'LoRA step, 8 x 256 tokens, all of them targets'
    return Case(name, Goal(0.80, 'share'), directory, {'t': rows}, RECIPE, repetitions)


def gsm8k(directory: str, rows: Sequence[Encoded], repetitions: int) -> Case:
    """Rows of uneven length."""
    many = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    # A whole training has all its steps to choose shapes for.
    whole = ({'t': many[:1600]}, {f't{i}': many[i::8] for i in range(8)})
    chosen = {'t': many[: 8 * (repetitions + 1)]}
    return Case('GSM8K rows, batch 8', Goal(1.5), directory, chosen, RECIPE, repetitions, whole)


def toy(directory: str, repetitions: int) -> Case:
    """Toy-size adapters, 22 in a step."""
    rng, count = np.random.default_rng(0), 32 * (repetitions + 1)
    tasks = {f't{i}': [drawn(rng, 8, 5, 119) for _ in range(count)] for i in range(22)}
    config = dataclasses.replace(RECIPE, batch_size=32, rank=4)
    name = '22 toy adapters x 32 rows of 13 tokens'
    return Case(name, Goal(6), directory, tasks, config, repetitions)


def story(directory: str, repetitions: int) -> Case:
    """Eight adapters on a published model of 260 thousand parameters, uneven rows."""
    rng, count = np.random.default_rng(0), 16 * (repetitions + 1)

    def rows() -> list[Encoded]:
        sizes = [(33, 32) if i % 16 == 0 else tuple(rng.integers(5, 25, 2)) for i in range(count)]
        return [drawn(rng, int(p), int(a), 512) for p, a in sizes]

    config = dataclasses.replace(RECIPE, batch_size=16, rank=8)
    tasks = {f't{i}': rows() for i in range(8)}
    name = '8 adapters x 16 rows of up to 65 tokens, 260 k parameters'
    return Case(name, None, directory, tasks, config, repetitions)


def from_file(directory: str, texts: Sequence[dict[str, str]], repetitions: int) -> Row:
    """Whole commands, as a user starts them: many rows less few, so that loading cancels."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    rates: dict[str, list[float]] = {'theirs': [], 'ours': []}
    for repetition in range(repetitions):
        chosen = texts[repetition * _MANY : (repetition + 1) * _MANY]
        with tempfile.TemporaryDirectory() as temporary:
            many, few = (
                _commands(directory, pathlib.Path(temporary, str(count)), chosen[:count])
                for count in (_MANY, _FEW)
            )
        ids = [tokenizer(t['prompt'] + '\n' + t['completion'])['input_ids'] for t in chosen[_FEW:]]
        real = sum(len(row) + 1 for row in ids)
        for side, values in rates.items():
            values.append(real / (many[side] - few[side]))
    name = f'`train --train_file`, {_MANY} rows less {_FEW}'
    return Row(name, 'real tokens/s', goal=Goal(1.4), note='without a compilation cache', **rates)


def _commands(
    directory: str, stem: pathlib.Path, texts: Sequence[dict[str, str]]
) -> dict[str, float]:
    """Returns the seconds of a training command of either side."""
    path = stem.with_suffix('.jsonl')
    path.write_text(''.join(json.dumps(text) + '\n' for text in texts))
    arguments = {
        'theirs': ['benchmarks.training', f'--peft_on={path}', f'--model={directory}'],
        'ours': [
            'lorajax.launch', 'train', f'--model={directory}', f'--train_file={path}',
            f'--output={stem}', '--num_epochs=1', '--param_dtype=float32', '--dtype=float32',
            '--remat=none', '--compilation_cache=none',
        ],
    }  # fmt: skip
    return {
        side: seconds(
            lambda command=command: subprocess.run(
                [sys.executable, '-m', *command], check=True, stdout=subprocess.DEVNULL
            )
        )
        for side, command in arguments.items()
    }


def peft_on(path: str, directory: str) -> None:
    """Trains one adapter with peft on a file, an epoch in batches of 8."""
    texts = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    rows = encode(directory, texts)
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


def rows(
    wanted: Sequence[str], repetitions: int, data_dir: str | None, story_model: str | None
) -> Iterator[Row]:
    """Measures some of `ROWS`, those whose files are there.

    Args:
      wanted: some of `ROWS`.
      repetitions: of a step of a second or more; small steps have more, whole commands a fourth.
      data_dir: has gsm8k/train.jsonl[.gz].
      story_model: a checkpoint.
    """
    texts = gsm8k_texts(pathlib.Path(data_dir)) if data_dir else []
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        if {'step', 'gsm8k', 'file'} & set(wanted):
            joined = [text['prompt'] + '\n' + text['completion'] for text in texts]
            qwen = write_model(root / 'qwen', QWEN, joined)
        if 'step' in wanted:
            yield measure(full_step(qwen, repetitions))
        if 'gsm8k' in wanted and texts:
            yield measure(gsm8k(qwen, encode(qwen, texts), repetitions))
        if 'toy' in wanted:
            directory = write_model(root / 'toy', CONFIGS['source'], [])
            yield measure(toy(directory, 4 * repetitions))
        if 'story' in wanted and story_model:
            yield measure(story(story_model, 2 * repetitions))
        if 'file' in wanted and texts:
            yield from_file(qwen, texts, max(1, repetitions // 4))  # it takes two minutes each


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--rows', default=','.join(ROWS))
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--data_dir')
    parser.add_argument('--story_model')
    parser.add_argument('--peft_on', help=argparse.SUPPRESS)
    parser.add_argument('--model', help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peft_on:
        peft_on(given.peft_on, given.model)
        return
    print(f'{timing.machine()}\n\n{timing.HEADER}', flush=True)
    for row in rows(given.rows.split(','), given.repetitions, given.data_dir, given.story_model):
        print(row, flush=True)


if __name__ == '__main__':
    main()
