"""How a tree of the package is built, one row a tree: `python -m benchmarks.tree [DIR ...]`.

DIR is a checkout, by default this one; several print several rows of one Markdown table. The
files are read, never imported, so that a checkout of any age can be counted:

- files, lines, median, largest: the .py files of lorajax/, `__init__.py` among them; lines as
  `wc -l` counts them.
- top level: .py files directly in lorajax/, without `__init__.py`.
- arrows: imports of one room by another. A room is a package or a file directly in lorajax/; an
  arrow is a pair (importing file, imported module).
- up: arrows from a lower room to a higher one, by `ROOMS` of the checkout's own
  tests/test_architecture.py; '-' where it has none.
- in cycles: arrows between rooms that import each other, directly or through others. These run
  up in whatever order the rooms are put.
- without test: modules (not `__init__.py`) that have no test at their path: tests/a/test_b.py is
  the test of lorajax/a/b.py.
"""

import ast
import pathlib
import statistics
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

COLUMNS = (
    'tree', 'files', 'lines', 'median', 'largest', 'top level', 'arrows', 'up', 'in cycles',
    'modules', 'without test',
)  # fmt: skip


class Arrow(NamedTuple):
    """An import of one room by another."""

    importer: str  # file, relative to lorajax/
    source: str  # its room
    target: str  # the room imported


def module_name(path: pathlib.Path, package: pathlib.Path) -> str:
    """Returns the dotted name of a file of the package, 'lorajax' for its `__init__.py`."""
    parts = path.relative_to(package.parent).with_suffix('').parts
    return '.'.join(parts).removesuffix('.__init__')


def imported(path: pathlib.Path, names: frozenset[str]) -> Iterator[str]:
    """Yields the modules of `names` that a file imports, at its top or inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f'{node.module}.{alias.name}'
                if whole in names:
                    yield whole
                elif node.module in names:
                    yield node.module


def arrows(package: pathlib.Path, files: list[pathlib.Path]) -> list[Arrow]:
    """Returns the imports between rooms; the package's own `__init__.py` is no room."""
    names = frozenset(module_name(path, package) for path in files)
    found = []
    for path in files:
        source = module_name(path, package).split('.')[1:2]
        for name in sorted(set(imported(path, names))):
            target = name.split('.')[1:2]
            if source and target and source != target:
                found.append(Arrow(path.relative_to(package).as_posix(), source[0], target[0]))
    return found


def declared_order(root: pathlib.Path) -> tuple[str, ...]:
    """Returns `ROOMS` of a checkout's tests/test_architecture.py, low to high; () without it."""
    path = root / 'tests' / 'test_architecture.py'
    if path.exists():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'ROOMS':
                return tuple(ast.literal_eval(node.value))
    return ()


def reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    """Returns the rooms that a room imports, directly or through others."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for room in edges.get(waiting.pop(), set()) - seen:
            seen.add(room)
            waiting.append(room)
    return seen


def row(root: pathlib.Path) -> list[str]:
    """Returns the cells of one checkout, in the order of `COLUMNS`."""
    package = root / 'lorajax'
    files = sorted(package.rglob('*.py'))
    lines = {path: path.read_bytes().count(b'\n') for path in files}
    largest = max(files, key=lambda path: lines[path])
    found = arrows(package, files)
    order = declared_order(root)
    edges: dict[str, set[str]] = {}
    for arrow in found:
        edges.setdefault(arrow.source, set()).add(arrow.target)
    below = {room: reachable(room, edges) for room in edges}
    up = [a for a in found if order and order.index(a.target) > order.index(a.source)]
    cyclic = [a for a in found if a.source in below.get(a.target, set())]
    modules = [path for path in files if path.name != '__init__.py']
    untested = [
        path
        for path in modules
        if not (root / 'tests' / path.relative_to(package).parent / f'test_{path.name}').exists()
    ]
    return [
        root.resolve().name,
        f'{len(files)}',
        f'{sum(lines.values()):,}',
        f'{statistics.median(lines.values()):.0f}',
        f'{lines[largest]} ({largest.relative_to(package).as_posix()})',
        f'{sum(path.parent == package for path in modules)}',
        f'{len(found)}',
        f'{len(up)}' if order else '-',
        f'{len(cyclic)}',
        f'{len(modules)}',
        f'{len(untested)}',
    ]


def main(argv: list[str]) -> None:
    """Prints the table."""
    here = pathlib.Path(__file__).resolve().parent.parent
    print('| ' + ' | '.join(COLUMNS) + ' |')
    print('| --- |' + ' ---: |' * (len(COLUMNS) - 1))
    for root in [pathlib.Path(word) for word in argv] or [here]:
        print('| ' + ' | '.join(row(root)) + ' |')


if __name__ == '__main__':
    main(sys.argv[1:])
