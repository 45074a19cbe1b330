"""Programs are compiled from shapes alone, and need what their arrays need."""

import dataclasses
import math

import jax

from lorajax import sharding
from lorajax.experiment import programs
from lorajax.experiment.config import Experiment
from lorajax.models import presets

EXPERIMENT = Experiment(
    lora_rank=4, lora_targets=('q_proj', 'down_proj'), batch_size=2, max_len=16, max_new_tokens=8,
    eval_batch_size=2, mesh=(1, 1, 1),
)  # fmt: skip
ADAPTERS = 2


def size(tree):
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def base(**changes):
    experiment = dataclasses.replace(EXPERIMENT, **changes)
    mesh = sharding.make_mesh(experiment.mesh, jax.devices()[:1])
    return programs.make_base(experiment, presets.QWEN2_TINY, mesh)


def test_programs_hold_the_base_and_the_adapters():
    made = base()
    weights, factors = size(made.params), size(programs.stacked_adapters(made, ADAPTERS))
    held = {'training': weights + 3 * factors, 'prompts': weights + factors}  # and two moments
    for program in programs.compile_all(made, ADAPTERS, ADAPTERS):
        assert program.compiled is not None
        found = program.compiled.memory_analysis().argument_size_in_bytes
        assert program.device_bytes >= found
        if program.what in held:
            # What is left are tokens and numbers of the step.
            assert 0 <= found - held[program.what] < 4096


def test_quantized_weights_are_a_quarter_of_float32():
    small, whole = size(base(quantize='int8').params), size(base().params)
    kernels = sum(
        size(leaf['kernel'])
        for name, leaf in base().params['layers'].items()
        if name.endswith('_proj')
    )
    assert whole - kernels * 3 / 4 <= small < whole - kernels * 0.7


def test_a_program_that_does_not_fit_is_none():
    class TooLarge:
        def compile(self):
            raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 20G of 15.75G hbm')

    assert programs._compile(TooLarge()) is None
    assert programs.Program('training', None).device_bytes is None
