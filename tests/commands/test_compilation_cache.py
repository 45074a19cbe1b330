"""Compiled programs are kept where they can be, and a run never fails for want of a place."""

import os

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from lorajax.commands import compilation_cache
from lorajax.commands.compilation_cache import enable
from lorajax.errors import ArgumentError
from lorajax.training.metrics import CompileClock

NAMES = (
    'jax_compilation_cache_dir', 'jax_enable_compilation_cache', 'jax_compilation_cache_max_size',
    'jax_persistent_cache_min_compile_time_secs',
)  # fmt: skip


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """No cache at first; those of the test session come back."""
    kept = {name: getattr(jax.config, name) for name in NAMES}
    jax.config.update('jax_compilation_cache_dir', None)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    yield
    for name, value in kept.items():
        jax.config.update(name, value)


def test_the_default_is_a_directory_of_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    enable('')
    first = jax.config.jax_compilation_cache_dir
    assert first.startswith(str(tmp_path / '.cache' / 'lorajax'))
    assert os.stat(first).st_mode & 0o077 == 0
    jax.config.update('jax_compilation_cache_dir', None)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'elsewhere'))
    enable('')
    assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path / 'elsewhere'))


def test_a_cache_that_jax_was_given_stays(tmp_path):
    jax.config.update('jax_compilation_cache_dir', str(tmp_path))
    enable('')
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    enable(str(tmp_path / 'other'))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'other')


def test_even_a_small_program_is_compiled_once(tmp_path):
    enable(str(tmp_path))
    jax_cache.reset_cache()  # it remembers the directory of its first program
    counts = []
    for _ in range(2):
        jax.clear_caches()
        with CompileClock() as clock:
            jax.jit(lambda x: 7 * x - 3)(np.arange(5.0))
        counts.append((clock.values()['compile_count'], clock.num_cached))
    jax_cache.reset_cache()
    assert counts == [(1, 0), (0, 1)]


def test_none_switches_it_off(tmp_path):
    enable('none')
    assert not jax.config.jax_enable_compilation_cache


@pytest.mark.parametrize('home', ['/proc/nowhere', 'relative'])
def test_without_a_place_the_run_goes_on(monkeypatch, home):
    monkeypatch.setenv('XDG_CACHE_HOME', home)
    enable('')
    assert jax.config.jax_compilation_cache_dir is None


def test_a_place_that_was_asked_for_must_be_usable(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ArgumentError, match=r'compilation_cache .*File exists'):
        enable(str(tmp_path / 'file'))


def test_a_directory_of_another_user_is_not_trusted(monkeypatch, tmp_path):
    monkeypatch.setattr(compilation_cache.os, 'getuid', lambda: 12345)
    with pytest.raises(ArgumentError, match='belongs to another user'):
        enable(str(tmp_path))
