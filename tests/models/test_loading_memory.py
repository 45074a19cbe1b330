"""Loading keeps one copy of the parameters and a few pieces in memory, and no more."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.models import shapes

GOAL = 1.15  # of the parameters' bytes
SIZES = dict(
    hidden_size=1024, num_hidden_layers=10, num_attention_heads=8, num_key_value_heads=2,
    head_dim=128, intermediate_size=4096, vocab_size=8192,
)  # fmt: skip
CHILD = """
import gc, json, pathlib, re, sys
import jax
from lorajax import models, safetensors_io

def status(field):
    text = pathlib.Path('/proc/self/status').read_text()
    return int(re.search(field + r':\\s+(\\d+)', text)[1]) * 1024

def ratio(dtype, extra=lambda: None):
    gc.collect()
    pathlib.Path('/proc/self/clear_refs').write_text('5')  # the peak is what is resident now
    before = status('VmHWM')
    kept = extra()
    params = models.load_model(sys.argv[1], param_dtype=dtype).params
    jax.block_until_ready(params)
    return (status('VmHWM') - before) / sum(leaf.nbytes for leaf in jax.tree.leaves(params))

def all_files():
    return [safetensors_io.read(path) for path in pathlib.Path(sys.argv[1]).glob('*.safetensors')]

jax.block_until_ready(jax.numpy.zeros(8) + 1)
print(json.dumps([ratio('bfloat16'), ratio('float32'), ratio('bfloat16', all_files)]))
"""


@pytest.mark.skipif(not pathlib.Path('/proc/self/clear_refs').exists(), reason='needs Linux')
def test_peak_memory_of_loading(tmp_path):
    shapes.write(tmp_path, 'Qwen2.5-3B', shard_bytes=100_000_000, **SIZES)
    files = list(tmp_path.glob('*.safetensors'))
    assert len(files) > 2 and sum(path.stat().st_size for path in files) > 300e6
    done = subprocess.run(
        [sys.executable, '-c', CHILD, tmp_path], capture_output=True, text=True, check=True
    )
    same, cast, with_a_copy = json.loads(done.stdout)
    assert 0.95 < same <= GOAL
    assert 0.95 < cast <= GOAL
    assert with_a_copy > 1.9  # the meter notices a second copy
