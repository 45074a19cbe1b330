"""mapping.json, which says what a stored mapping is, and the names of the parts beside it."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import fields
from lorajax.io.reading import shorten
from lorajax.lora.config import TARGETS
from lorajax.mapping.methods import method_named
from lorajax.mapping.options import Options
from lorajax.mapping.shapes import Shape
from lorajax.mapping.subspace import Tensors
from lorajax.types import JsonDict

FORMAT = 2
FILE = 'mapping.json'
ANCHORS = ('source', 'target')
FRAMES = ('frame', 'source_frame')

TASKS = fields.Kind(
    'a list of different names, sorted',
    lambda value: fields.list_of(fields.TEXT).fits(value) and value == sorted(set(value)) != [],
)
_TENSORS = fields.Kind(
    'a list of pairs of projection and layer, the layers of each projection from 0 on',
    lambda value: (
        isinstance(value, list)
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and pair[0] in TARGETS
            and fields.INDEX.fits(pair[1])
            for pair in value
        )
        and value == _grid(collections.Counter(pair[0] for pair in value)) != []
    ),
)
_RANK = fields.Kind(
    'an integer from 1 to 65536', lambda value: fields.COUNT.fits(value) and value <= 65536
)
_NUMBERS = fields.list_of(fields.NUMBER)
# What `predict` and the model card read of it; the rest may be anything.
_INFO = {
    'mean_anchor_norm': fields.Kind(
        'a number from 0 on', lambda value: fields.NUMBER.fits(value) and value >= 0
    ),
    'validation': fields.TEXT,
}
_OPTIONAL_INFO = {
    'loo_r2': fields.NUMBER,
    'loo_cosine': fields.NUMBER,
    'loo_norm_ratio': fields.NUMBER,
    'loo_r2_by_anchor': _NUMBERS,
    'anchor_span_distances': _NUMBERS,
    'fallback': fields.TEXT,
}


class Header(NamedTuple):
    """What a mapping is, beside its state; see `api.TransferMap`."""

    method: str
    options: Options
    tasks: tuple[str, ...]
    query_shapes: Mapping[str, Shape]
    output_rank: int


def file_of(root: pathlib.Path, index: int) -> pathlib.Path:
    """Returns where one of several parts of a kind stands."""
    return root / f'{index:04d}.safetensors'


def write_header(header: Header) -> JsonDict:
    """Returns the fields that `read_header` reads."""
    return {
        'format': FORMAT,
        **header._asdict(),
        'options': dataclasses.asdict(header.options),
        'query_shapes': {p: dataclasses.asdict(s) for p, s in header.query_shapes.items()},
    }


def read(path: pathlib.Path) -> JsonDict:
    """Returns the content of the file.

    Raises:
      InputError: if it is no object, or of another format.
    """
    content = fields.require_object(path, io.read_json(path))
    fields.require(path, content, 'format', fields.one_of(FORMAT))
    return content


def read_header(path: pathlib.Path, content: JsonDict) -> Header:
    """Checks the fields of mapping.json that say what the mapping is."""
    method = fields.require(path, content, 'method', fields.TEXT)
    stored = fields.require(path, content, 'options', fields.OBJECT)
    names = {field.name for field in dataclasses.fields(Options)}
    if unknown := sorted(set(stored) - names):
        raise InputError(
            f'{path}: options has {io.show(unknown[0])}, which this version does not know; fit the '
            'mapping again'
        )
    try:
        method_named(method)
        # What an earlier version did not ask for has its default, which is what it did.
        options = Options(**stored)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    shapes = fields.require(path, content, 'query_shapes', fields.object_of(fields.OBJECT))
    return Header(
        method,
        options,
        tuple(fields.require(path, content, 'tasks', TASKS)),
        {
            name: _read_shape(f'{path}: {shorten(name, 60)}', name, shape)
            for name, shape in shapes.items()
        },
        fields.require(path, content, 'output_rank', _RANK),
    )


def _read_shape(where: str, projection: str, content: JsonDict) -> Shape:
    """Checks the shape of one projection."""
    if projection not in TARGETS:
        raise InputError(f'{where}: is no projection, expected some of {", ".join(TARGETS)}')
    names = [field.name for field in dataclasses.fields(Shape)]
    return Shape(**{name: fields.require(where, content, name, fields.COUNT) for name in names})


def read_tensors(path: pathlib.Path, content: JsonDict, name: str) -> Tensors:
    """Checks a list of tensors."""
    pairs = fields.require(path, content, name, _TENSORS)
    return [(projection, layer) for projection, layer in pairs]


def read_info(path: pathlib.Path, content: JsonDict) -> JsonDict:
    """Checks those of the diagnostics that something reads."""
    info = fields.require(path, content, 'info', fields.OBJECT)
    where = f'{path}: info'
    for name, kind in _INFO.items():
        fields.require(where, info, name, kind)
    for name, kind in _OPTIONAL_INFO.items():
        fields.require(where, info, name, kind, default=None)
    return info


def _grid(depths: Mapping[str, int]) -> list[list[Any]]:
    """Returns pairs of projection and layer, as JSON has them, in the order of `TARGETS`."""
    return [[p, layer] for p in TARGETS if p in depths for layer in range(depths[p])]
