"""Documents stay true: what they name exists, and what they say to type is understood."""

import importlib.util
import pathlib
import re
import shlex

import pytest

import lorajax
from lorajax.commands import parse
from tests.test_architecture import declared

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = ('README.md', 'BUILD.md', 'CHANGELOG.md', 'docs/results.md', 'docs/log.md')
BOOKS = ('README.md', 'BUILD.md')  # speak of the present code alone
TYPED = (*BOOKS, 'docs/results.md')  # what they say to type must work today
FLAGFILES = sorted(path.name for path in (ROOT / 'launch').glob('*.flags'))
MOST_LINES = 250  # of BUILD.md

# Beginnings of paths in the repository; anything else with a slash is a user's own path.
_FOLDERS = ('.ci', 'benchmarks', 'docs', 'examples', 'launch', 'lorajax', 'tests')


def text_of(name):
    """The text of a document."""
    return (ROOT / name).read_text()


def fences(text, language=''):
    """Bodies of the fenced blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.M | re.S)


def prose(text):
    """A text without its fenced blocks."""
    return re.sub(r'^```.*?^```$', '', text, flags=re.M | re.S)


def commands(text):
    """Command lines of a document: lines of plain blocks, and inline code with a flag in it."""
    lines = []
    for block in fences(text):
        lines += block.replace('\\\n', '').splitlines()
    lines += [' '.join(code.split()) for code in re.findall(r'`([^`]+)`', prose(text))]
    lines += re.findall(r'^#  +(\S.*)$', text.replace('\\\n#', ''), re.M)  # heads of flagfiles
    typed = [line for line in lines if re.match(r'(lorajax|python|bash|pip|make) \S', line)]
    return [shlex.split(line, comments=True) for line in typed]


def check(words):
    """Raises, or returns why a command line cannot be what it looks like."""
    if words[:3] == ['python', '-m', 'lorajax.launch']:
        words = ['lorajax', *words[3:]]
    program, *rest = words
    if program == 'lorajax' and (not rest or rest in ([name] for name in parse.COMMANDS)):
        return None  # a command that is spoken of, without its flags
    if program == 'lorajax' and rest[0] == 'help':
        for name in rest[1:]:
            parse.command_named(name)
    elif program == 'lorajax':
        parse.parse(rest)
    elif words[:2] == ['python', '-m']:
        return check_module(rest[1], rest[2:])
    elif program == 'python':
        return None if (ROOT / rest[0]).is_file() else f'{rest[0]}: no such file'
    elif program == 'bash':
        script, *rest = rest
        if not (ROOT / script).is_file():
            return f'{script}: no such script'
        if not script.startswith('launch/'):
            return None
        name, *flags = rest
        while flags and not flags[0].startswith('-'):  # what to do, as of launch/tpu_vm.sh
            if f' {flags[0]} |' not in text_of(script) and f'| {flags[0]})' not in text_of(script):
                return f'{script} has no word {flags[0]}'
            del flags[0]
        if script == 'launch/environment.sh':
            return None
        if name != 'NAME':
            parse.parse([f'--flagfile=launch/{name}.flags', *flags])
    elif program == 'make':
        if not re.search(rf'^{rest[0]}:', text_of('Makefile'), re.M):
            return f'{rest[0]}: no such target'
    elif program == 'pip':
        for extra in re.findall(r'\[(\w+)\]', ' '.join(rest)):
            if f"'{extra}': [" not in text_of('setup.py'):
                return f'{extra}: no such extra'
    return None


def check_module(name, arguments):
    """Returns what is wrong with `python -m name arguments`, without importing the module."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        spec = importlib.util.find_spec(f'{name}.__main__')
    if spec is None:
        return f'{name}: no such module'
    if name.split('.')[0] not in ('lorajax', 'benchmarks'):
        return None  # pytest and its like know their own flags
    source = pathlib.Path(spec.origin).read_text()
    for argument in arguments:
        flag = re.match(r'--(\w+)', argument)
        if flag and not re.search(rf"['\"](--)?{flag[1]}['\"]", source):
            return f'{name} has no flag --{flag[1]}'
    return None


def slug(heading):
    """The anchor that GitHub makes of a heading."""
    return re.sub(r'[^\w -]', '', heading.strip().lower()).replace(' ', '-')


@pytest.mark.parametrize(
    ('document', 'words'),
    [(name, words) for name in TYPED for words in commands(text_of(name))],
    ids=lambda value: value if isinstance(value, str) else ' '.join(value)[:60],
)
def test_command_lines_are_understood(document, words, monkeypatch):
    del document
    monkeypatch.chdir(ROOT)  # flagfiles are named from here
    assert check(words) is None


def test_command_lines_are_found():
    found = [words for name in TYPED for words in commands(text_of(name))]
    programs = {words[0] for words in found}
    assert programs >= {'lorajax', 'make', 'pip'} and len(found) >= 20


def test_a_wrong_command_line_is_noticed(monkeypatch):
    monkeypatch.chdir(ROOT)
    for line in (
        'lorajax translate --maping=mapping --adapter=a --output=b',
        'lorajax run --flagfile=launch/nothing.flags',
        'lorajax train --mapping=m',
    ):
        (words,) = commands(f'```\n{line}\n```\n')
        with pytest.raises(ValueError):
            check(words)
    for line in (
        'make tea', 'bash launch/nothing.sh NAME', "pip install -e '.[nothing]'",
        'python -m benchmarks.nothing', 'python -m benchmarks.mapping_lab --workdirs=DIR',
        'python docs/nothing.py',
    ):  # fmt: skip
        (words,) = commands(f'```\n{line}\n```\n')
        assert check(words)


@pytest.mark.parametrize('document', TYPED)
def test_paths_exist(document):
    text = text_of(document)
    named = re.findall(r'(?<![\w/.])(?:' + '|'.join(_FOLDERS) + r')/[\w./-]*\w', text)
    named += [name for name in re.findall(r'`([\w.]+)`', text) if name.endswith(('.md', '.py'))]
    missing = [
        name
        for name in named
        if not (ROOT / name).exists()
        and not name.startswith('launch/NAME')  # a flagfile of the reader's choice
        # A module in a row of the map stands below its room; see the test of the map.
        and not ('/' not in name and any((ROOT / 'lorajax').rglob(name)))
    ]
    assert named and not missing


@pytest.mark.parametrize('document', DOCUMENTS)
def test_links_lead_somewhere(document):
    here = (ROOT / document).parent
    targets = re.findall(r'\]\(([^)\s]+)\)', text_of(document))
    broken = []
    for target in targets:
        if target.startswith(('http://', 'https://')):
            continue
        path, _, anchor = target.partition('#')
        file = (here / path) if path else ROOT / document
        headings = file.suffix == '.md' and file.exists() and re.findall(
            r'^#+ (.*)$', file.read_text(), re.M
        )  # fmt: skip
        if not file.exists() or (anchor and anchor not in map(slug, headings or ())):
            broken.append(target)
    assert targets and not broken


@pytest.mark.parametrize('document', BOOKS)
def test_python_names_exist(document):
    for name in set(re.findall(r'\blorajax(?:\.[A-Za-z_]+)+', text_of(document))):
        if name.endswith(('.py', '.launch')):
            continue
        value = lorajax
        for part in name.split('.')[1:]:
            module = f'{value.__name__}.{part}' if hasattr(value, '__path__') else ''
            if not hasattr(value, part) and module and importlib.util.find_spec(module):
                value = importlib.import_module(module)
            else:
                value = getattr(value, part)


def test_build_is_short():
    assert len(text_of('BUILD.md').splitlines()) <= MOST_LINES


def map_rows():
    """Room -> what its row of BUILD.md's map says."""
    return dict(re.findall(r'^\| `lorajax/([\w/.]+?)/?` \| (.*) \|$', text_of('BUILD.md'), re.M))


def test_the_map_names_every_room():
    package = ROOT / 'lorajax'
    rooms = {
        path.parent.relative_to(package).as_posix()
        for path in package.rglob('__init__.py')
        if path.parent != package
    }
    rooms |= {path.name for path in package.glob('*.py') if path.name != '__init__.py'}
    assert set(map_rows()) == rooms


def test_the_dependencies_are_those_of_setup():
    table = text_of('BUILD.md').split('## Dependencies')[1]
    cells = re.findall(r'^\| ([^|]+) \| (?!`\[test\]`)[^|]*\|', table, re.M)[2:]  # head, rule
    named = {name.split()[0].lower() for cell in cells for name in cell.split(', ')}
    assert {name.replace('_', '-') for name in named} == declared()


def test_the_map_names_files_that_are_there():
    for room, row in map_rows().items():
        for name in re.findall(r'`([\w.]+\.(?:py|npz|html))`', row):
            assert (ROOT / 'lorajax' / room / name).is_file(), f'{room}: {name}'


@pytest.mark.parametrize('name', FLAGFILES)
def test_heads_of_flagfiles_name_command_and_hardware(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    head = re.match(r'(?:#.*\n)+', (ROOT / 'launch' / name).read_text())
    assert head, 'a flagfile begins with a comment'
    lines = commands(head[0])
    stem = name.removesuffix('.flags')
    assert any(f'--flagfile=launch/{name}' in words or stem in words for words in lines)
    assert [problem for problem in map(check, lines) if problem] == []
    assert re.search(r'Hardware|CPU|GPU|TPU', head[0])


def test_numbers_of_the_readme_are_measured():
    measured = interval_triples(text_of('docs/results.md'))
    for triple in interval_triples(text_of('README.md')):
        assert any(
            all(abs(float(x) - float(y)) <= 0.00501 for x, y in zip(triple, other, strict=True))
            for other in measured
        ), triple


def test_numbers_of_the_picture_are_measured():
    spec = importlib.util.spec_from_file_location('rungs', ROOT / 'docs' / 'rungs.py')
    rungs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rungs)
    measured = {
        tuple(map(float, triple)) for triple in interval_triples(text_of('docs/results.md'))
    }
    drawn = {values for _, *both in rungs.ROWS for values in both if values}
    assert drawn and drawn <= measured


def interval_triples(text):
    """Every 'value [low, high]' of a text, as strings."""
    number = r'(-?\d+\.\d+)'
    return re.findall(rf'{number} \[{number}, {number}\]', text)
