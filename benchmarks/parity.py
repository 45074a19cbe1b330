"""Largest differences to transformers on random models: `python -m benchmarks.parity`.

Needs the [test] extra. One row per family and tying; see BUILD.md for the last figures.
"""

import pathlib
import tempfile

import numpy as np
import torch

from lorajax import models
from tests.models import reference

LONG = 9000  # past the 8192 positions at which llama3 scaling was meant to begin


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest absolute difference over the largest absolute value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def main() -> None:
    """Prints the table."""
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


if __name__ == '__main__':
    main()
