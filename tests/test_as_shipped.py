"""What the other tests compile cheaply, compiled as users have it."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMPARISONS = (
    'tests/models/test_transformer.py::test_the_unchanged_port_is_green',
    'tests/training/test_loop.py::test_losses_and_adapter_equal_those_of_peft_with_torch_adamw[qwen2]',
)


@pytest.mark.parity
def test_comparisons_with_transformers_and_peft():
    """Logits, losses of fifty steps, adapters: one process, with XLA's own options."""
    cheap = ('--xla_backend_optimization_level', '--xla_cpu_use_fusion_emitters')
    flags = [flag for flag in os.environ['XLA_FLAGS'].split() if not flag.startswith(cheap)]
    environment = {**os.environ, 'XLA_FLAGS': ' '.join(flags), 'LORAJAX_COMPILE': 'as shipped'}
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-p', 'no:xdist', *COMPARISONS],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert '3 passed' in done.stdout, done.stdout
