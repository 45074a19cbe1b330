"""What a run wrote about itself, read again: its settings and its metrics, field by field."""

import pathlib

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import options
from lorajax.experiment.config import Experiment
from lorajax.io import fields
from lorajax.types import JsonDict

# Larger ones are no measurement, and no axis has ticks for them.
_MEASURED = fields.Kind(
    'a number below 1e12', lambda value: fields.NUMBER.fits(value) and abs(value) < 1e12
)
_EMPTY = fields.one_of(None)
_TRAIN_ROW = {
    'step': fields.INDEX,
    'side': fields.TEXT,
    'tasks': fields.list_of(fields.TEXT),
    'task': fields.TEXT,
    'loss': fields.either(_MEASURED, fields.list_of(fields.either(_MEASURED, _EMPTY))),
    'tokens_per_second': _MEASURED,
}
_STAGE_ROW = {
    'stage': fields.TEXT,
    **dict.fromkeys(('seconds', 'compile_count', 'compile_seconds', 'compile_cached'), _MEASURED),
}


def read_config(path: pathlib.Path) -> JsonDict:
    """Reads the settings of a run, each as `Experiment` would take it.

    A setting that this release does not know, or that the run did not, is none of a report's.

    Raises:
      InputError: naming the setting, if it is missing or another than it may be.
    """
    config = fields.require_object(path, io.read_json(path))
    for name, declared in options.options_of(Experiment).items():
        if config.get(name) is None:
            continue
        try:
            declared.check(config[name])
        except ArgumentError as error:
            raise InputError(f'{path}: {error}') from None
    names = fields.require(path, config, 'heldouts', fields.list_of(fields.TEXT))
    for name in names:
        if not name.isidentifier():  # it becomes the name of a file
            raise InputError(f'{path}: heldouts has {fields.show(name)}, expected names of tasks')
    fields.require(path, config, 'domains', fields.object_of(fields.TEXT), {})
    fields.require(path, config, 'twins', fields.object_of(fields.list_of(fields.TEXT)), {})
    return config


def read_metrics(path: pathlib.Path) -> list[JsonDict]:
    """Reads metrics.jsonl; nothing if there is none.

    Raises:
      InputError: naming the line and the field, if a row of a training or a stage is not as it was
        written.
    """
    rows = []
    for number, row in io.read_numbered_jsonl(path) if path.exists() else ():
        row = fields.require_object(f'{path}:{number}', row)
        if row.get('event') == 'train':
            for name, kind in _TRAIN_ROW.items():
                fields.require(f'{path}:{number}', row, name, kind, None)
        if row.get('event') == 'stage':
            for name, kind in _STAGE_ROW.items():
                fields.require(f'{path}:{number}', row, name, kind)
        rows.append(row)
    return rows
