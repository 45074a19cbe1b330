"""Files: written whole or not at all, read with one line of complaint where they are wrong."""

from lorajax.io.files import (
    PathLike,
    atomic_directory,
    atomic_file,
    read_json,
    read_jsonl,
    read_numbered_jsonl,
    remove_partial,
    write_json,
    write_jsonl,
    write_text,
)

__all__ = [
    'PathLike',
    'atomic_directory',
    'atomic_file',
    'read_json',
    'read_jsonl',
    'read_numbered_jsonl',
    'remove_partial',
    'write_json',
    'write_jsonl',
    'write_text',
]
