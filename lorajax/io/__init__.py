"""Files: written whole or not at all, read with one line of complaint where they are wrong."""

from lorajax.io.atomic import atomic_directory, atomic_file, remove_partial, write_text
from lorajax.io.checksums import (
    SUMS_FILE,
    check_sum,
    check_sums,
    file_sum,
    format_sums,
    remove_sum,
    write_sum,
    write_sums,
)
from lorajax.io.fields import show
from lorajax.io.json_files import (
    parse_json,
    read_json,
    read_jsonl,
    read_numbered_jsonl,
    write_json,
    write_jsonl,
)
from lorajax.io.reading import PathLike, one_line_errors, open_file, read_bytes, shorten

__all__ = [
    'SUMS_FILE',
    'PathLike',
    'atomic_directory',
    'atomic_file',
    'check_sum',
    'check_sums',
    'file_sum',
    'format_sums',
    'one_line_errors',
    'open_file',
    'parse_json',
    'read_bytes',
    'read_json',
    'read_jsonl',
    'read_numbered_jsonl',
    'remove_partial',
    'remove_sum',
    'shorten',
    'show',
    'write_json',
    'write_jsonl',
    'write_sum',
    'write_sums',
    'write_text',
]
