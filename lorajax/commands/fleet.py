"""Many adapters of one base: found below directories, translated one after the other, summed up."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import logging

from lorajax import io
from lorajax.commands.translation import Result
from lorajax.errors import ArgumentError, InputError
from lorajax.lora.peft import CONFIG_FILE
from lorajax.progress import Progress
from lorajax.types import JsonDict

TOGETHER = 8  # adapters translated while the anchors are read once; all are held in memory
WRITTEN, REFUSED, KEPT = 'written', 'refused', 'there already'
_SETTINGS = 'settings.json'

Translate = Callable[[Mapping[str, pathlib.Path]], Mapping[str, Result]]
Write = Callable[[pathlib.Path, Result], None]


def find(roots: Sequence[str]) -> dict[str, pathlib.Path]:
    """Finds adapters.

    Args:
      roots: directories, each an adapter or with adapters anywhere below.

    Returns:
      Name -> directory. An adapter is named by its path below the root; a root by its own name.

    Raises:
      ArgumentError: if a root is no directory or holds no adapter, or two have one name.
    """
    found: dict[str, pathlib.Path] = {}
    for root in map(pathlib.Path, roots):
        if not root.is_dir():
            raise ArgumentError('adapters', root, 'no such directory')
        paths = sorted(path.parent for path in root.rglob(CONFIG_FILE))
        if not paths:
            raise ArgumentError('adapters', root, f'is no adapter and holds none ({CONFIG_FILE})')
        for path in paths:
            name = root.name if path == root else path.relative_to(root).as_posix()
            if name in found:
                raise ArgumentError('adapters', path, f'{found[name]} has the same name')
            found[name] = path
    return found


def run(
    output: pathlib.Path,
    paths: Mapping[str, pathlib.Path],
    settings: JsonDict,
    translate: Translate,
    write: Write,
    shard: str = '',
) -> None:
    """Translates adapters into `output / name`, each whole or absent; writes a summary of all.

    A run that was killed goes on where it stopped: what is there already is kept. One adapter that
    cannot be translated, or should not be used, does not keep the others from being written.

    Args:
      output: new, or that of a run with the same settings.
      paths: source adapters by name.
      settings: what decides the results, JSON-able.
      translate: returns results by name; raises `InputError` if one of them cannot be had.
      write: writes a result into a directory.
      shard: ends the summary's name, where several processes write to one output.

    Raises:
      ArgumentError: if the output was begun with other settings.
      InputError: at the end, if adapters were refused.
    """
    _begin(output, settings)
    rows: dict[str, JsonDict] = {}
    todo = []
    for name, path in paths.items():
        rows[name] = {'source': str(path), 'status': KEPT}
        if not (output / name / CONFIG_FILE).is_file():
            todo.append(name)
    with Progress('translate', len(paths), initial=len(paths) - len(todo)) as progress:
        for group in (todo[i : i + TOGETHER] for i in range(0, len(todo), TOGETHER)):
            chosen = {name: paths[name] for name in group}
            for name, result in _one_by_one_if_need_be(translate, chosen):
                if isinstance(result, Result):
                    with io.atomic_directory(output / name) as partial:
                        write(partial, result)
                    rows[name] |= {'status': WRITTEN, **result.to_json()}
                else:
                    rows[name] |= {'status': REFUSED, 'reason': result}
                progress.update()
    summary = output / f'summary{shard}.json'
    io.write_json(summary, rows)
    for line in table(rows):
        logging.info('%s', line)
    refused = [name for name, row in rows.items() if row['status'] == REFUSED]
    if refused:
        raise InputError(
            f'{output}: {len(refused)} of {len(rows)} adapters were refused, {refused[0]} among '
            f'them: {rows[refused[0]]["reason"]}; {summary} has all, the others are written'
        )


def _begin(output: pathlib.Path, settings: JsonDict) -> None:
    """Makes the output, or checks that it was begun with the same settings."""
    stored = output / _SETTINGS
    if output.exists() and any(output.iterdir()):
        known = io.read_json(stored) if stored.is_file() else None
        if known != settings:
            reason = 'exists already' if known is None else 'was begun with other settings'
            raise ArgumentError('output', output, f'{reason}, expected a new directory')
        return
    output.mkdir(parents=True, exist_ok=True)
    io.write_json(stored, settings)


def _one_by_one_if_need_be(
    translate: Translate, paths: Mapping[str, pathlib.Path]
) -> Iterator[tuple[str, Result | str]]:
    """Yields the result of each adapter, or why there is none."""
    try:
        yield from translate(paths).items()
        return
    except InputError as error:
        if len(paths) == 1:
            yield next(iter(paths)), str(error)
            return
    for name, path in paths.items():
        yield from _one_by_one_if_need_be(translate, {name: path})


def table(rows: Mapping[str, JsonDict]) -> list[str]:
    """Returns one line for each adapter, under heads."""
    heads = ('adapter', 'status', 'rung', 'verdict', 'expected of the map', 'why')
    lines = [heads]
    for name, row in rows.items():
        expected = row.get('expected_share_of_map')
        share = '{share:.2f} [{low:.2f}, {high:.2f}]'.format(**expected) if expected else ''
        why = io.shorten(row.get('reason', '').partition('; ')[0], 80)
        lines.append((name, row['status'], row.get('rung', ''), row.get('verdict', ''), share, why))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
