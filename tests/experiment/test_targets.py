"""Accelerators that are not here have names, sizes and descriptions."""

import importlib.util

import pytest

from lorajax.errors import ArgumentError
from lorajax.experiment import targets


@pytest.mark.parametrize(
    'name', ['', 'h101', 'h100-', 'h100-0', 'v5e-3', 'v5p', 'v5e-8-8', 'H100', 'h100-٣']
)
def test_what_is_no_accelerator_is_refused(name):
    with pytest.raises(ArgumentError, match='h100'):
        targets.devices(name)
    with pytest.raises(ArgumentError):
        targets.look_up(name)


def test_memory_is_what_a_program_may_use():
    gib = {
        name: targets.look_up(name).memory / 2**30 for name in ('v5e-8', 'v6e', 'h100', 'rtx4090')
    }
    assert {name: round(size) for name, size in gib.items()} == {
        'v5e-8': 16, 'v6e': 31, 'h100': 59, 'rtx4090': 18
    }  # fmt: skip


@pytest.mark.parametrize('name', targets.GPUS)
def test_a_gpu_is_described_in_balanced_text(name):
    text = targets._description(targets.GPUS[name])
    assert text.count('{') == text.count('}')
    assert f'name: "{targets.GPUS[name].name}"' in text
    assert f'device_memory_size: {targets.GPUS[name].size} ' in text


@pytest.mark.parametrize(('package', 'name'), [('libtpu', 'v5e-8'), ('jax_plugins', 'h100')])
def test_a_missing_compiler_is_named(package, name):
    if importlib.util.find_spec(package):
        pytest.skip(f'{package} is installed')
    with pytest.raises(ArgumentError, match='needs the package'):
        targets.devices(name)
