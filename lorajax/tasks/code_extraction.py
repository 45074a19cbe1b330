"""The program in a model's answer: what a reader would copy out of it and save.

Code stands in fences (of backticks or tildes, tagged, indented, with Windows line ends), or
between lines of prose. Where the name of the wanted function is known, statements are kept by
the syntax tree: the function, what it needs, from other blocks too, and imports; examples,
prints and tests of the model's own go.

Source: the idea of evalplus' sanitizer (Liu et al. 2023), which keeps what an entry point
reaches in a tree-sitter parse; this one is written for `ast` and for several blocks.
"""

import ast
import dataclasses
import itertools
import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence

_FENCE = re.compile(r'^([ \t>]*)(`{3,}|~{3,})[ \t]*([^`\n]*?)[ \t]*$', re.MULTILINE)
_PYTHON = frozenset(('', 'python', 'py', 'python2', 'python3', 'ipython', 'ipython3', 'pycon'))
_STARTS = re.compile(r'^[ \t]*(?:def|class|async def|import|from|@)\b|^[ \t]*@\w|^\w+\s*=[^=]')
# What is looked at; a model stuck in a loop writes thousands.
_MOST_FENCES, _MOST_LINES, _MOST_STARTS = 100, 500, 20


@dataclasses.dataclass(frozen=True)
class _Block:
    """A candidate.

    Attributes:
      code: text, dedented where that makes it a program.
      tree: its syntax tree; None if it is no Python.
      is_python: it is tagged so, or not at all.
    """

    code: str
    tree: ast.Module | None
    is_python: bool


def extract_code(prediction: str, entry_points: Sequence[str] = ()) -> str:
    """Returns the program in `prediction`.

    Args:
      prediction: what the model wrote.
      entry_points: names of the functions that tests call; none keeps the first block whole.

    Returns:
      Python where there is any; else the first block, or the text, which will not compile.
    """
    text = prediction.replace('\r\n', '\n').replace('\r', '\n')
    blocks = _fenced(text)
    python = [block for block in blocks if block.is_python] or blocks
    if entry_points:
        program = _needed(python, entry_points)
        if program is None:
            program = _needed(_unfenced(text), entry_points)
        if program is not None:
            return program
    if python:
        return next((block.code for block in python if block.tree), python[0].code)
    return text.replace('```', '').strip('\n').rstrip()


def _parse(code: str) -> ast.Module | SyntaxError | None:
    """A syntax tree, or the error with its line, or None if nothing can be said."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # invalid escapes in a model's strings
        try:
            return ast.parse(code)
        except SyntaxError as error:
            return error
        except (ValueError, RecursionError, MemoryError):  # null bytes, surrogates, depth
            return None


def _tree(code: str) -> ast.Module | None:
    """The syntax tree, None if the code is no Python or nothing at all."""
    tree = _parse(code)
    return tree if isinstance(tree, ast.Module) and tree.body else None


def _block(code: str, is_python: bool) -> _Block:
    """A block, dedented if it only compiles so."""
    code = code.strip('\n').rstrip()
    tree = _tree(code)
    if tree is None:
        dedented = textwrap.dedent(code)
        tree = _tree(dedented)
        code = dedented if tree else code
    return _Block(code, tree, is_python)


def _fenced(text: str) -> list[_Block]:
    """All fenced blocks; one that never closes goes on to the end.

    A fence inside a docstring does not close its block: of the fences that may, the first
    is taken that leaves a program.
    """
    blocks = []
    fences = list(itertools.islice(_FENCE.finditer(text), _MOST_FENCES))
    index = 0
    while index < len(fences):
        opening = fences[index]
        start = opening.end() + 1
        closings = [
            i
            for i in range(index + 1, len(fences))
            if fences[i][2].startswith(opening[2]) and not fences[i][3]
        ]
        word = re.match(r'[{.\s]*([^\s{}:,]*)', opening[3])
        is_python = (word[1].lower() if word else '') in _PYTHON
        if not closings:
            blocks.append(_block(_outdented(text[start:], opening[1]), is_python))
            break
        candidates = [
            (i, _block(_outdented(text[start : fences[i].start()], opening[1]), is_python))
            for i in closings[:8]
        ]
        whole = next(((i, block) for i, block in candidates if block.tree), candidates[0])
        blocks.append(whole[1])
        index = whole[0] + 1
    return [block for block in blocks if block.code]


def _outdented(code: str, margin: str) -> str:
    """Takes from each line as much space, or the quotation marks, as the fence has before it."""
    if '>' in margin:
        return re.sub(r'^[ \t]*(?:>[ \t]?)+', '', code, flags=re.MULTILINE)
    lines = code.split('\n')
    indent = len(margin.expandtabs())
    return '\n'.join(line[min(indent, len(line) - len(line.lstrip())) :] for line in lines)


def _unfenced(text: str) -> list[_Block]:
    """Programs that stand between lines of prose, each as long as it compiles."""
    lines = [line for line in text.split('\n')[:_MOST_LINES] if not _FENCE.match(line)]
    blocks = []
    index = starts = 0
    while index < len(lines) and starts < _MOST_STARTS:
        if not _STARTS.match(lines[index]):
            index += 1
            continue
        starts += 1
        rest = textwrap.dedent('\n'.join(_indented_alike(lines[index:]))).split('\n')
        parsed = _parse('\n'.join(rest))
        while isinstance(parsed, SyntaxError) and rest:
            rest = rest[: max(0, min((parsed.lineno or 1) - 1, len(rest) - 1))]
            parsed = _parse('\n'.join(rest))
        if isinstance(parsed, ast.Module) and parsed.body:
            blocks.append(_Block('\n'.join(rest), parsed, True))
            index += len(rest)
        else:
            index += 1
    return blocks


def _indented_alike(lines: Sequence[str]) -> list[str]:
    """Lines up to the first that is indented less than the first."""
    indent = len(lines[0]) - len(lines[0].lstrip())
    kept = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            break
        kept.append(line)
    return kept


def _needed(blocks: Sequence[_Block], entry_points: Sequence[str]) -> str | None:
    """The statements that the entry points need, None if no block defines one of them."""
    parsed = [block for block in blocks if block.tree]
    main = next((b for b in parsed if _defines(b, entry_points, stubs=False)), None)
    main = main or next((b for b in parsed if _defines(b, entry_points, stubs=True)), None)
    if main is None:
        return None
    others = [block for block in parsed if block is not main]
    wanted = set(entry_points)
    pieces = [_kept(main, wanted)]
    available = _bound(main)
    for other in reversed(others):
        missing = wanted - available
        if missing & _bound(other):
            pieces.insert(0, _kept(other, set(missing), wanted))
            available |= _bound(other)
    return '\n\n\n'.join(piece for piece in pieces if piece)


def _defines(block: _Block, names: Iterable[str], stubs: bool) -> bool:
    """Returns whether a block defines one of the names, with a body unless stubs count."""
    for statement in block.tree.body if block.tree else ():
        if _targets(statement) & set(names) and (stubs or not _is_stub(statement)):
            return True
    return False


def _is_stub(statement: ast.stmt) -> bool:
    """Returns whether a function has no body but a docstring, `pass` or `...`."""
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and all(
        isinstance(s, ast.Pass) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        for s in statement.body
    )


def _bound(block: _Block) -> set[str]:
    """The names that a block defines at its top level."""
    return {name for s in (block.tree.body if block.tree else ()) for name in _targets(s)}


def _targets(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).partition('.')[0] for a in statement.names}
    names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and _stores(n)}
    nested = ast.walk(statement) if isinstance(statement, ast.If | ast.Try) else ()
    for node in nested:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= _targets(node)
    return names


def _stores(name: ast.Name) -> bool:
    """Returns whether a name is bound where it stands."""
    return isinstance(name.ctx, ast.Store)


def _reads(statement: ast.stmt) -> set[str]:
    """The names that a statement mentions, inside functions too; no local ones of a function."""
    nodes = list(ast.walk(statement))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return names
    local = {node.arg for node in nodes if isinstance(node, ast.arg)}
    local |= {node.id for node in nodes if isinstance(node, ast.Name) and _stores(node)}
    shared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    return names - (local - shared)


def _kept(block: _Block, wanted: set[str], every: set[str] | None = None) -> str:
    """The lines of the statements that bind what is wanted, or change it on the way.

    Args:
      block: with a tree.
      wanted: names; those that the kept statements need are added.
      every: a second set to add them to.
    """
    assert block.tree is not None
    body = block.tree.body
    definitions = {n for s in body if isinstance(s, _DEFINITIONS) for n in _targets(s)}
    imported = {n for s in body if isinstance(s, ast.Import | ast.ImportFrom) for n in _targets(s)}
    kept: set[int] = set()
    grown = True
    while grown:
        grown = False
        variables = wanted - definitions - imported
        for index, statement in enumerate(body):
            if index in kept or _is_main_guard(statement):
                continue
            targets, reads = _targets(statement), _reads(statement)
            is_plain = not isinstance(statement, (*_DEFINITIONS, ast.Import, ast.ImportFrom))
            changes = is_plain and not isinstance(statement, ast.Assert) and (
                bool(reads & variables & _bound(block)) and not reads & definitions
            )  # fmt: skip
            configures = isinstance(statement, ast.Expr) and (
                bool(reads & imported) and not reads & definitions and not _prints(statement)
            )
            if targets & wanted or (changes and not _prints(statement)) or configures:
                kept.add(index)
                wanted |= reads | (targets if changes else set())
                grown = True
    kept |= {i for i, s in enumerate(body) if isinstance(s, ast.Import | ast.ImportFrom)}
    if every is not None:
        every |= wanted
    lines = block.code.split('\n')
    places: set[int] = set()
    for index in kept:
        statement = body[index]
        decorators = getattr(statement, 'decorator_list', [])
        first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
        places |= set(range(first - 1, statement.end_lineno or first))
    if all(lines[i].strip() == '' for i in range(len(lines)) if i not in places):
        return block.code
    return '\n'.join(lines[i] for i in sorted(places))


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _is_main_guard(statement: ast.stmt) -> bool:
    """Returns whether this is `if __name__ == '__main__':`."""
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == '__name__' for node in ast.walk(statement.test)
    )


def _prints(statement: ast.stmt) -> bool:
    """Returns whether a statement is a bare `print(...)` or `input(...)`."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.value.func, ast.Name)
        and statement.value.func.id in ('print', 'input', 'help', 'exit', 'quit')
    )
