"""Largest differences to transformers and peft on random models, two tables.

`python -m benchmarks.parity [logits] [training]`, both by default. Needs the [test] extra.
`logits` has one row per family and tying, `training` one per family and recipe: 50 steps of LoRA
at the layer shapes of Qwen2.5-0.5B and Llama-3.2-1B, two layers, float32, against peft and
torch's AdamW. See docs/results.md for the last figures.
"""

import dataclasses
import pathlib
import sys
import tempfile

import numpy as np
import torch

from lorajax import lora, models
from lorajax.training import TrainConfig
from tests.models import reference, shapes
from tests.training import training_reference
from tests.training.examples import make_examples

RECIPE = TrainConfig(num_epochs=25, batch_size=4, targets=lora.TARGETS)  # 8 examples: 50 steps
RECIPES = {
    'defaults: warm-up, linear, clipping at 1': RECIPE,
    'defaults, epsilon 1e-5': dataclasses.replace(RECIPE, epsilon=1e-5),
    'constant 2e-4, clipping at 1': dataclasses.replace(
        RECIPE, schedule='constant', warmup_ratio=0.0
    ),
    'warm-up, cosine from 1e-3, weight decay 0.01': dataclasses.replace(
        RECIPE, schedule='cosine', warmup_ratio=0.1, learning_rate=1e-3, weight_decay=0.01
    ),
}
COLUMNS = 'losses', 'a', 'b'  # distances by norm, of the worst projection
LONG = 9000  # past the 8192 positions at which llama3 scaling was meant to begin


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest absolute difference over the largest absolute value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def logits() -> None:
    """Prints the table of logits and greedy texts."""
    print('| family | tied | logits, padded batch | logits at positions past 9000 | greedy, 64 |')
    print('| --- | --- | ---: | ---: | --- |')
    for family in ('qwen2', 'llama'):
        for tied in (True, False):
            with tempfile.TemporaryDirectory() as directory:
                theirs = reference.make(directory, family, tied)
                ours = models.load_model(str(pathlib.Path(directory)))
            rng = np.random.default_rng(0)
            tokens = rng.integers(3, 101, (4, 40)).astype(np.int32)
            mask = np.ones_like(tokens)
            for row in range(1, 4):
                mask[row, : 4 * row] = 0
            positions = np.maximum(np.cumsum(mask, -1) - 1, 0)
            wide = torch.tensor(tokens.astype(np.int64))
            with torch.no_grad():
                expected = theirs(
                    wide, attention_mask=torch.tensor(mask), position_ids=torch.tensor(positions)
                ).logits.numpy()
                far = theirs(wide, position_ids=torch.arange(LONG, LONG + 40)[None]).logits.numpy()
            real = mask.astype(bool)
            near = relative(np.asarray(ours.logits(tokens, mask))[real], expected[real])
            hidden, _ = ours.module.apply(
                {'params': ours.params}, tokens, np.ones_like(tokens),
                np.broadcast_to(np.arange(LONG, LONG + 40), tokens.shape),
            )  # fmt: skip
            distant = relative(np.asarray(models.model.unembed(ours.params, hidden)), far)
            texts = theirs.generate(
                wide, attention_mask=torch.tensor(mask), max_new_tokens=64, do_sample=False,
                eos_token_id=None,
            ).numpy()[:, 40:]  # fmt: skip
            same = np.array_equal(texts, np.asarray(ours.generate(tokens, mask, max_new_tokens=64)))
            print(
                f'| {family} | {tied} | {near:.1e} | {distant:.1e} | '
                f'{"identical" if same else "differs"} |'
            )


def training() -> None:
    """Prints the table of trainings: ours against peft's, and both against peft in float64."""
    print('| shape | recipe | first to last loss | compared |', ' | '.join(COLUMNS), '|')
    print('| --- | --- | --- | --- |', ' | '.join(['---:'] * len(COLUMNS)), '|', flush=True)
    for name in ('Qwen2.5-0.5B', 'Llama-3.2-1B'):
        with tempfile.TemporaryDirectory() as directory:
            config = shapes.write(
                directory, name, dtype=np.float32, num_hidden_layers=2, vocab_size=1024
            )
            model = models.load_model(directory)
            examples = make_examples(0, 8, 1024, (10, 23), (2, 7))
            for recipe, train_config in RECIPES.items():
                ours = training_reference.with_lorajax(model, examples, train_config)
                peft, double = (
                    training_reference.with_peft(directory, config, examples, train_config, dtype)
                    for dtype in (torch.float32, torch.float64)
                )
                span = f'{ours.losses[0]:.3f} to {ours.losses[-1]:.3f}'
                for label, actual, expected in (
                    ('lorajax, peft', ours, peft),
                    ('lorajax, peft in float64', ours, double),
                    ('peft, peft in float64', peft, double),
                ):
                    distance = training_reference.differences(actual, expected)
                    cells = ' | '.join(f'{distance[column]:.1e}' for column in COLUMNS)
                    print(f'| {name} | {recipe} | {span} | {label} | {cells} |', flush=True)


def main() -> None:
    """Prints the tables that are asked for."""
    tables = {'logits': logits, 'training': training}
    for name in sys.argv[1:] or tables:
        tables[name]()
        print()


if __name__ == '__main__':
    main()
