"""Files: written whole or not at all, read with one line of complaint where they are wrong."""

from lorajax.io.checksums import (
    check_sum,
    check_sums,
    file_sum,
    remove_sum,
    write_sum,
    write_sums,
)
from lorajax.io.files import (
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
from lorajax.io.reading import PathLike, one_line_errors, open_file, read_bytes, shorten

__all__ = [
    'PathLike',
    'atomic_directory',
    'atomic_file',
    'check_sum',
    'check_sums',
    'file_sum',
    'one_line_errors',
    'open_file',
    'read_bytes',
    'read_json',
    'read_jsonl',
    'read_numbered_jsonl',
    'remove_partial',
    'remove_sum',
    'shorten',
    'write_json',
    'write_jsonl',
    'write_sum',
    'write_sums',
    'write_text',
]
