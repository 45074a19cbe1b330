"""Shared set-up: the CPU, and no silently skipped parity."""

import importlib.util
import os
import pathlib

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('HF_HUB_OFFLINE', '1')  # tests never wait for a network
# Tests compile more than they compute: LLVM's optimisation costs them more than it saves.
os.environ['XLA_FLAGS'] = f'--xla_backend_optimization_level=0 {os.environ.get("XLA_FLAGS", "")}'
# Many tests compile the same small programs, some in processes of their own.
_CACHE = pathlib.Path(__file__).resolve().parent.parent / '.pytest_cache' / 'jax'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')

import pytest  # noqa: E402

_REQUIRED = os.environ.get('LORAJAX_PARITY') == 'require'


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
    directory = tmp_path_factory.mktemp('fake_report')
    fake_run.write_report(directory)
    return directory
