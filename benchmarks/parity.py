"""Largest differences to transformers and peft on random models, three tables.

`python -m benchmarks.parity [logits] [greedy] [training]`, all by default. Needs the [test] extra.
`logits` has one row per family and tying. `greedy` has one per family at real layer shapes, with
windows cut to 8 tokens so that they bite: texts, and an adapter beside its merged model. `training`
has one per family and recipe, 50 steps of LoRA at the layer shapes of Qwen2.5-0.5B and
Llama-3.2-1B, two layers, float32, against peft and torch's AdamW. See docs/results.md for the last
figures.
"""

import dataclasses
import pathlib
import sys
import tempfile
from unittest import mock

import numpy as np
import torch
import transformers

from lorajax import lora, models
from lorajax.models import presets
from lorajax.training import TrainConfig
from tests.models import compare, reference, shapes
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
    for family in presets.TINY:
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
            cap = ours.config.logit_softcap
            distant = relative(np.asarray(models.model.unembed(ours.params, hidden, cap)), far)
            texts = theirs.generate(
                wide, attention_mask=torch.tensor(mask), max_new_tokens=64, do_sample=False,
                eos_token_id=None,
            ).numpy()[:, 40:]  # fmt: skip
            same = np.array_equal(texts, np.asarray(ours.generate(tokens, mask, max_new_tokens=64)))
            print(
                f'| {family} | {tied} | {near:.1e} | {distant:.1e} | '
                f'{"identical" if same else "differs"} |'
            )


GREEDY = {
    'Qwen3-0.6B': dict(num_hidden_layers=4),
    'Mistral-7B-v0.1': dict(num_hidden_layers=2, sliding_window=8),
    'gemma-2-2b': dict(num_hidden_layers=4, sliding_window=8),
    'gemma-3-1b': dict(num_hidden_layers=6, sliding_window=8),
    'SmolLM2-135M': dict(num_hidden_layers=4),
}
NEW_TOKENS = 48


def greedy() -> None:
    """Prints the table of greedy texts at real layer shapes, the layers apart and scanned."""
    print('| shape | layers | texts of 4 x 48 tokens, layers apart | scanned | merged adapter |')
    print('| --- | ---: | --- | --- | ---: |')
    for name, overrides in GREEDY.items():
        with tempfile.TemporaryDirectory() as directory:
            config = shapes.write(directory, name, np.float32, vocab_size=1024, **overrides)
            kernel = 'eager' if config.attention_softcap else None
            theirs = transformers.AutoModelForCausalLM.from_pretrained(
                directory, dtype=torch.float32, attn_implementation=kernel
            ).eval()
            ours = models.load_model(directory)
            rng = np.random.default_rng(0)
            tokens = rng.integers(3, 1024, (4, 24)).astype(np.int32)
            mask = np.ones_like(tokens)
            for row in range(1, 4):
                mask[row, : 4 * row] = 0
            texts = theirs.generate(
                torch.tensor(tokens.astype(np.int64)), attention_mask=torch.tensor(mask),
                max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None,
            ).numpy()[:, 24:]  # fmt: skip
            same = []
            for pays in (True, False):
                with mock.patch.object(models.step, 'pays', lambda _, pays=pays: pays):
                    found = ours.generate(tokens, mask, max_new_tokens=NEW_TOKENS)
                same.append(f'{np.mean(np.asarray(found) == texts):.3f} equal')
            adapter = compare.random_adapter(config)
            lora.save_peft(f'{directory}/a', lora.LoraConfig(compare.RANK, compare.RANK), adapter)
            models.merge_and_save(directory, f'{directory}/a', f'{directory}/merged')
            merged = transformers.AutoModelForCausalLM.from_pretrained(
                f'{directory}/merged', dtype=torch.float32, attn_implementation=kernel
            ).eval()
            with torch.no_grad():
                expected = merged(torch.tensor(tokens[:1].astype(np.int64))).logits.numpy()
            distance = relative(np.asarray(ours.logits(tokens[:1], adapter=adapter)), expected)
        print(
            f'| {name} | {config.num_layers} | {same[0]} | {same[1]} | {distance:.1e} |',
            flush=True,
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
    tables = {'logits': logits, 'greedy': greedy, 'training': training}
    for name in sys.argv[1:] or tables:
        tables[name]()
        print()


if __name__ == '__main__':
    main()
