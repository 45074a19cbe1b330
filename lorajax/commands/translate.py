"""`translate`: source adapters become target adapters."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np
from absl import logging

from lorajax import io, mapping
from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment.adapters import SIDES, save_predicted
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.experiment.workdir import BASES
from lorajax.lora import load_peft
from lorajax.lora.peft import CONFIG_FILE
from lorajax.mapping import model_card
from lorajax.types import Adapter


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `translate`."""

    mapping: str = option(
        '', 'a fitted mapping: RUN/mappings/METHOD, or made by map', required=True
    )
    adapter: str = option('', 'one source adapter, in PEFT format')
    adapters: tuple[str, ...] = option(
        (), 'several: directories of one source adapter each, or that hold some'
    )
    output: str = shared.output_flag('the target adapter, or for one directory of each')
    assume_source: str = option(
        '',
        'the base model that the adapters were trained on, where their configs call it by another '
        'name or not at all',
    )
    adapter_dtype: str = shared.adapter_dtype_flag()
    force: bool = option(False, 'write results that do nothing, too')


def translate(flags: Flags, experiment: Experiment) -> None:
    """Turns source adapters into target adapters; needs neither base model nor data.

    Each result is a PEFT adapter of the target model with a model card, which says what it was
    made from and what to expect of it.

    Raises:
      InputError: if an adapter belongs to another base than the mapping's source, its shapes
        differ from the anchors', or a result is zero everywhere.
      ArgumentError: unless one of adapter and adapters is given; if the output exists.
    """
    del experiment
    output = shared.new_directory(flags.output)
    sources = _sources(flags)
    bases = read_bases(pathlib.Path(flags.mapping) / BASES)
    fitted = mapping.load(flags.mapping)
    queries = {name: _read(path, bases['source'], flags) for name, path in sources.items()}
    with io.atomic_directory(output) as partial:
        for name, query in queries.items():
            directory = partial if flags.adapter else partial / name
            _translate_one(flags, fitted, bases, sources[name], query, directory)
    logging.info('%s adapters for %s: %s', fitted.method, bases['target'], output)


def _sources(flags: Flags) -> dict[str, pathlib.Path]:
    """Returns the adapters to translate, by name."""
    if bool(flags.adapter) == bool(flags.adapters):
        raise InputError('--adapter, --adapters: expected one of the two')
    if flags.adapter:
        return {'': pathlib.Path(flags.adapter)}
    sources: dict[str, pathlib.Path] = {}
    for name in flags.adapters:
        root = pathlib.Path(name)
        if not root.is_dir():
            raise ArgumentError('adapters', root, 'no such directory')
        paths = [p for p in (root, *sorted(root.iterdir())) if (p / CONFIG_FILE).is_file()]
        if not paths:
            raise ArgumentError('adapters', root, f'is no adapter and holds none ({CONFIG_FILE})')
        for path in paths:
            if path.name in sources:
                raise ArgumentError('adapters', path, f'{sources[path.name]} has the same name')
            sources[path.name] = path
    return sources


def read_bases(path: pathlib.Path) -> dict[str, str]:
    """Reads which base models a mapping is between.

    Raises:
      InputError: if the file is missing or holds something else.
    """
    bases = io.read_json(path)
    if not isinstance(bases, dict) or not all(isinstance(bases.get(s), str) for s in SIDES):
        raise InputError(
            f'{path}: is {io.shorten(repr(bases))}, expected the names of source and target'
        )
    return bases


def _read(path: pathlib.Path, source: str, flags: Flags) -> Adapter:
    """Reads an adapter that must belong to the mapping's source model."""
    config, adapter = load_peft(path)
    base = flags.assume_source or config.base_model
    if not base:
        logging.warning('%s: names no base model, taken as an adapter of %s', path, source)
    elif base != source:
        raise InputError(
            f'{path}: belongs to {base}, the mapping translates adapters of {source}'
            + ('' if flags.assume_source else '; assume_source says that the two are the same')
        )
    return adapter


def _translate_one(
    flags: Flags,
    fitted: mapping.TransferMap,
    bases: Mapping[str, str],
    path: pathlib.Path,
    query: Adapter,
    directory: pathlib.Path,
) -> None:
    """Writes the translation of one adapter with its card, and logs what to expect."""
    try:
        prediction = fitted.explain(query)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    if not flags.force and not any(
        np.any(entry['a']) and np.any(entry['b']) for entry in prediction.adapter['layers'].values()
    ):
        raise InputError(
            f'{path}: its translation changes nothing, all of it is zero; force writes it anyway'
        )
    card = model_card.model_card(
        bases=bases,
        adapter=str(path),
        mapping=flags.mapping,
        diagnostics=fitted.diagnostics,
        report=prediction.report,
    )
    save_predicted(directory, prediction.adapter, bases['target'], flags.adapter_dtype)
    io.write_text(directory / 'README.md', card)
    logging.info('%s: expected quality: %s', path, model_card.expectation(fitted.diagnostics))
    distance = prediction.report.get('distance_to_span')
    if distance is not None:
        logging.info('%s: share outside of what the anchors span: %.2f', path, distance)
    if caution := model_card.warning(fitted.diagnostics, prediction.report):
        logging.warning('%s: %s', path, caution)


COMMAND = Command('translate', translate, Flags)
