"""Largest differences to transformers and peft at real layer shapes, in float32.

`python -m benchmarks.real_shapes [--full_vocab] [NAME ...]`: random bfloat16-stored checkpoints
of two layers, all sizes of `tests/models/shapes.py` or those named; without --full_vocab the
vocabulary is cut to 1024. Needs the [test] extra. Prints a Markdown table.
"""

import pathlib
import sys
import tempfile

import jax.numpy as jnp

from lorajax import models
from tests.models import compare, shapes


def main() -> None:
    """Prints the table."""
    names = [arg for arg in sys.argv[1:] if not arg.startswith('--')] or list(shapes.REAL)
    overrides = {} if '--full_vocab' in sys.argv else {'vocab_size': 1024}
    header = None
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            config = shapes.write(directory, name, num_hidden_layers=2, **overrides)
            expected = compare.expect(pathlib.Path(directory), config)
            model = models.load_model(directory)
        actual = compare.compute(model)
        found = compare.worst(compare.differences(actual, expected))
        half = compare.differences(compare.compute(model, jnp.bfloat16), actual)
        found['bfloat16 against float32, logits'] = half['logits, padded left and right']
        if header is None:
            header = list(found)
            print('| shape |', ' | '.join(header), '|')
            print('| --- |', ' | '.join(['---:'] * len(header)), '|')
        print(f'| {name} |', ' | '.join(f'{found[item]:.1e}' for item in header), '|', flush=True)


if __name__ == '__main__':
    main()
