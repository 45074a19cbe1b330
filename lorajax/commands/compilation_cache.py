"""Where compiled programs are kept between runs, so that a second run compiles nothing."""

import hashlib
import importlib.util
import os
import pathlib
import platform
from typing import Any

import jax
from absl import logging

from lorajax.errors import ArgumentError

NONE = 'none'  # the flag's value for no cache
_MOST_BYTES = 2**31  # the programs used longest ago give way


def enable(directory: str) -> None:
    """Makes JAX keep compiled programs in a directory and take them from there.

    A cache of the user's own, from JAX's environment variable, stays. Where the default directory
    cannot be had, nothing is kept and the run goes on.

    Args:
      directory: '' for one of the user's own below `$XDG_CACHE_HOME` or `~/.cache`, 'none' for
        no cache.

    Raises:
      ArgumentError: if a directory that was asked for cannot be written.
    """
    if directory == NONE:
        jax.config.update('jax_enable_compilation_cache', False)
        return
    config: Any = jax.config
    if not directory and config.jax_compilation_cache_dir:
        return
    path = pathlib.Path(directory) if directory else _default()
    problem = 'there is no home directory' if path is None else _problem(path)
    if path is None or problem:
        if directory:
            raise ArgumentError('compilation_cache', directory, f'{problem}, or give {NONE}')
        logging.info('compiled programs are not kept for the next run: %s', problem)
        return
    jax.config.update('jax_compilation_cache_dir', str(path))
    if importlib.util.find_spec('filelock'):  # JAX bounds a cache with its help alone
        jax.config.update('jax_compilation_cache_max_size', _MOST_BYTES)
    # Also those that are compiled in no time: a run has a hundred of them, which took 20 s.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _default() -> pathlib.Path | None:
    """Returns the directory of this user and this kind of processor; None without a home.

    Programs for a CPU use its own instructions, and one home may be that of several machines.
    """
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    if not os.path.isabs(base):
        return None
    kind = platform.machine()
    cpuinfo = pathlib.Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors='replace').splitlines()
        kind += next((line for line in lines if line.startswith(('flags', 'Features'))), '')
    return pathlib.Path(base, 'lorajax', f'xla-{hashlib.sha256(kind.encode()).hexdigest()[:12]}')


def _problem(path: pathlib.Path) -> str:
    """Makes a directory if need be; returns why it cannot be used, '' if it can."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Who can write there can make us run what they like.
        if path.stat().st_uid != os.getuid():
            return f'{path} belongs to another user'
    except OSError as error:
        return f'{path}: {error.strerror}'
    return '' if os.access(path, os.W_OK | os.X_OK) else f'{path} cannot be written'
