"""A valid directory, damaged in one way: what refusals are tested with.

A case is a function that makes a directory, and the line that reading it ends in, `{d}` for the
directory. The safetensors package's own words for a damaged header, which change between its
releases, are left out.
"""

import dataclasses
import json
import re
from collections.abc import Callable

from lorajax.io import tensor_files


@dataclasses.dataclass(frozen=True)
class Valid:
    """Makes cases of a valid directory.

    Attributes:
      write: makes it at a path.
      config: name of the file of its settings, JSON.
      weights: name of its safetensors file.
    """

    write: Callable
    config: str
    weights: str

    def settings(self, **changes):
        """Returns a case: fields of the config are changed, or taken out if None is given."""

        def make(path):
            self.write(path)
            raw = {**json.loads((path / self.config).read_text()), **changes}
            kept = {name: value for name, value in raw.items() if value is not None}
            (path / self.config).write_text(json.dumps(kept))

        return make

    def text(self, file, text):
        """Returns a case: a file has this text."""

        def make(path):
            self.write(path)
            (path / file).write_text(text)

        return make

    def without(self, file, **options):
        """Returns a case: a file is gone."""

        def make(path):
            self.write(path, **options)
            (path / file).unlink()

        return make

    def tensors(self, change):
        """Returns a case: the tensors of the file are changed."""

        def make(path):
            self.write(path)
            tensors = tensor_files.read(path / self.weights)
            change(tensors)
            tensor_files.write(path / self.weights, tensors)

        return make

    def bytes(self, change, **options):
        """Returns a case: the bytes of the weights are changed."""

        def make(path):
            self.write(path, **options)
            (path / self.weights).write_bytes(change((path / self.weights).read_bytes()))

        return make


def flip(position, bit=0):
    """Returns bytes -> the same with one bit flipped; positions below 0 count from the end."""

    def change(data):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        return bytes(damaged)

    return change


def edit_header(change):
    """Returns bytes of a safetensors file -> the same with another text as header."""

    def edit(data):
        length = int.from_bytes(data[:8], 'little')
        text = change(data[8 : 8 + length].decode().rstrip())
        return len(text).to_bytes(8, 'little') + text.encode() + data[8 + length :]

    return edit


def name_twice(tensor):
    """Returns bytes of a safetensors file -> the same with a tensor named twice."""

    def change(text):
        header = json.loads(text)
        header.pop('__metadata__', None)
        return f'{json.dumps(header)[:-1]}, "{tensor}": {json.dumps(header[tensor])}}}'

    return edit_header(change)


def of(file, cases):
    """Returns cases whose lines begin with a file of the directory."""
    return {name: (make, f'{{d}}/{file}: {line}') for name, (make, line) in cases.items()}


def line_of(error, path):
    """Returns a line of complaint with `{d}` for the directory, without the package's reason."""
    line = str(error).replace(str(path), '{d}')
    return re.sub(r'(corrupt or not safetensors): .* (\(\d+ bytes\))$', r'\1 \2', line)
