"""The tree is the architecture: who may import whom, what is declared, where tests stand."""

import ast
import functools
import importlib.metadata
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'lorajax'
MODULES = sorted(PACKAGE.rglob('*.py'))

# From the rooms that know nothing of others to those that know all; imports point backwards.
ROOMS = (
    'errors', 'types', 'rng', 'model_names', 'progress', 'processes', 'sharding', 'io', 'lora',
    'models', 'sandbox', 'tasks', 'training', 'mapping', 'evaluation', 'distillation', 'report',
    'toy', 'stories', 'text', 'experiment', 'commands', 'launch',
)  # fmt: skip
# Libraries that one place alone may import.
CONFINED = {
    'transformers': {'tasks/chat.py', 'toy/tokenizer.py', 'text/tokenizer.py'},
    'tokenizers': {'toy/tokenizer.py', 'text/tokenizer.py', 'text/pretrain.py'},
    'datasets': {'tasks/data.py'},
    'safetensors': {'io/tensor_files.py'},
    'matplotlib': {'report/figures'},
    'orbax': {'training/checkpoint.py'},
    'tqdm': {'progress.py'},
    'torch': set(),
    'peft': set(),
}
KNOW_FLAGS = ('commands', 'launch', 'toy', 'text')  # the last two: their pretraining is a command
NOT_MODELS = ('mapping', 'report', 'sandbox')  # see trees, numbers and texts, never a model


def room(path):
    """The first part of a module's path below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


@functools.cache
def imports(path):
    """Every module that a file imports, absolute."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [
                f'{node.module}.{alias.name}' if node.module == 'lorajax' else node.module
                for alias in node.names
            ]
    return names


def test_every_room_has_its_place():
    assert {room(path) for path in MODULES} - {'__init__'} == set(ROOMS)


def test_no_arrow_runs_back_up():
    upward = [
        f'{path.relative_to(ROOT)} imports {name}'
        for path in MODULES
        for name in imports(path)
        if name.startswith('lorajax.')
        and room(path) != '__init__'
        and ROOMS.index(name.split('.')[1]) > ROOMS.index(room(path))
    ]
    assert not upward


def test_rooms_without_models_import_none():
    found = [
        f'{path.relative_to(ROOT)} imports {name}'
        for path in MODULES
        if room(path) in NOT_MODELS
        for name in imports(path)
        if name.startswith('lorajax.models')
    ]
    assert not found


def test_only_commands_and_launch_know_flags_and_experiments():
    found = [
        f'{path.relative_to(ROOT)} imports {name}'
        for path in MODULES
        for name in imports(path)
        if (name in ('absl.flags', 'absl.app') and room(path) not in KNOW_FLAGS)
        or (name.startswith('lorajax.experiment') and room(path) not in ('experiment', 'commands'))
    ]
    named = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if room(path) not in ('experiment', 'commands', 'launch')
        and re.search(r"['\"`( ]--[a-z]+_[a-z_]+", path.read_text())
    ]
    assert not found + named


@pytest.mark.parametrize('library', CONFINED)
def test_libraries_stay_where_they_belong(library):
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for name in imports(path)
        if name.split('.')[0] == library
    }
    allowed = tuple(CONFINED[library])
    assert not [path for path in found if not path.startswith(allowed or ('none',))]


def declared():
    """Distributions that setup.py asks for at run time."""
    text = (ROOT / 'setup.py').read_text()
    block = text[text.index('install_requires=[') : text.index('extras_require')]
    return {re.match(r"[A-Za-z0-9_.-]+", name)[0].lower().replace('_', '-')
            for name in re.findall(r"^\s+f?'([^']+)'", block, re.M)}  # fmt: skip


def test_declared_dependencies_are_the_imported_ones():
    providers = importlib.metadata.packages_distributions()
    used = {
        name.split('.')[0]
        for path in MODULES
        for name in imports(path)
        if name.split('.')[0] not in sys.stdlib_module_names | {'lorajax', '__future__'}
    }
    used = {providers[name][0].lower().replace('_', '-') for name in used}
    assert used == declared()


def test_every_module_has_its_test_at_the_mirrored_path():
    missing = [
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if path.name != '__init__.py'
        and not (ROOT / 'tests' / path.relative_to(PACKAGE).parent / f'test_{path.name}').exists()
    ]
    assert not missing


def test_every_test_file_tests_a_module():
    beside = {'tests/test_architecture.py', 'tests/test_package.py', 'tests/test_documents.py',
              'tests/test_launch_scripts.py', 'tests/test_examples.py', 'tests/test_as_shipped.py',
              'tests/lora/peft/test_vllm.py'}  # fmt: skip
    strays = []
    for path in (ROOT / 'tests').rglob('test_*.py'):
        module = path.relative_to(ROOT / 'tests').with_name(path.name.removeprefix('test_'))
        home = ROOT if module.parts[0] == 'benchmarks' else PACKAGE
        if not (home / module).exists() and path.relative_to(ROOT).as_posix() not in beside:
            strays.append(path)
    assert not strays
