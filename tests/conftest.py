"""Shared set-up: the CPU, and no silently skipped parity."""

import importlib.util
import os
import pathlib
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('HF_HUB_OFFLINE', '1')  # tests never wait for a network
# Tests compile more than they compute: optimising costs them more than it saves. Programs as users
# have them are compared with transformers and peft by tests/test_as_shipped.py.
_AS_SHIPPED = os.environ.get('LORAJAX_COMPILE') == 'as shipped'
if not _AS_SHIPPED:
    _CHEAP = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
    os.environ['XLA_FLAGS'] = f'{_CHEAP} {os.environ.get("XLA_FLAGS", "")}'
if 'PYTEST_XDIST_WORKER' in os.environ:  # workers share the cores; threads would wait in loops
    os.environ.setdefault('OMP_NUM_THREADS', '1')
# Many tests compile the same small programs, some in processes of their own.
_CACHE = pathlib.Path(__file__).resolve().parent.parent / '.pytest_cache' / 'jax'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')

import pytest  # noqa: E402

from tests.once import make_once  # noqa: E402

_REQUIRED = os.environ.get('LORAJAX_PARITY') == 'require'


# The longest first, so that no worker is left with one when the others have finished.
_LONGEST = (
    'tests/experiment/test_pipeline.py', 'tests/training/test_loop.py',
    'tests/experiment/stages/', 'tests/models/test_transformer.py', 'tests/tasks/test_verify.py',
    'tests/evaluation/test_inference.py', 'tests/test_launch.py', 'tests/test_as_shipped.py',
)  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """Puts the longest files first; leaves out what `tests/test_as_shipped.py` runs."""
    if not _AS_SHIPPED:
        left_out = [item for item in items if item.get_closest_marker('shipped')]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(
        key=lambda item: next(
            (i for i, path in enumerate(_LONGEST) if item.nodeid.startswith(path)), len(_LONGEST)
        )
    )


def pytest_configure(config):
    """Ends the session if `make test` lacks the independent references."""
    del config
    for name in ('torch', 'peft'):
        if _REQUIRED and importlib.util.find_spec(name) is None:
            pytest.exit(f'parity tests need {name}, which is not installed', returncode=3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turns a skipped parity test into a failure under `make test`."""
    report = yield
    if _REQUIRED and report.skipped and item.get_closest_marker('parity'):
        report.outcome = 'failed'
        report.longrepr = f'parity test skipped: {report.longrepr}'
    return report


@pytest.fixture(scope='module', autouse=True)
def compiled_programs():
    """Forgets programs before they are too many: each holds nine maps of memory or more.

    Linux allows a process 65,530; a whole suite in one process died of a segmentation fault.
    """
    yield
    maps = pathlib.Path('/proc/self/maps')
    if maps.exists() and maps.read_bytes().count(b'\n') > 30_000:
        sys.modules['jax'].clear_caches()


@pytest.fixture(scope='session')
def shared_data():
    """The real benchmark rows, where they lie beside the clone."""
    path = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'data'
    if not path.is_dir():
        pytest.skip('no benchmark rows beside the clone')
    return path


@pytest.fixture(scope='session')
def fake_run():
    """A made-up run with everything in it; not to be changed."""
    from tests.fake_run import make_fake_run

    return make_fake_run(n=60)


@pytest.fixture(scope='session')
def fake_results(fake_run) -> dict:
    """The content of its results.json; not to be changed."""
    return fake_run.results()


@pytest.fixture(scope='session')
def fake_report(fake_run, tmp_path_factory) -> pathlib.Path:
    """The directory of its report."""
    return make_once(tmp_path_factory, 'fake_report', fake_run.write_report)
