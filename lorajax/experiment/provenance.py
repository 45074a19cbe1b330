"""What a result was made with: libraries, commit, content of files."""

import hashlib
import importlib.metadata
import pathlib
import subprocess

_LIBRARIES = (
    'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'transformers', 'datasets',
    'safetensors', 'numpy', 'scikit-learn',
)  # fmt: skip

# Of files of weights: up to this size all is hashed, of larger ones the beginning, which holds the
# names and shapes, and some blocks.
_WHOLE_BYTES = 64 << 20
_BEGINNING_BYTES = 1 << 20
_NUM_BLOCKS, _BLOCK_BYTES = 1024, 4096


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that a result depends on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def git_commit() -> str | None:
    """Returns the commit of the source tree that lorajax runs from, None outside of git."""
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return None
    done = subprocess.run(
        ['git', '-C', str(root), 'rev-parse', 'HEAD'], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


def hash_rows(directory: pathlib.Path) -> str:
    """Returns the SHA-256 over the rows that a run trains on and is evaluated on.

    Args:
      directory: `data` of a run, with train/ and eval/.
    """
    digest = hashlib.sha256()
    for part in ('eval', 'train'):
        for path in sorted((directory / part).glob('*.jsonl')):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def fingerprint(directory: pathlib.Path, pattern: str) -> str:
    """Returns a SHA-256 that tells whether the files that match a glob pattern are others.

    Names, sizes and contents count. Of a large file the beginning and evenly spaced blocks do:
    another training changes all of them, and hashing 6 GB of weights would take longer than
    loading them. A single flipped bit between the blocks is not noticed.
    """
    digest = hashlib.sha256()
    for path in sorted(directory.glob(pattern)):
        size = path.stat().st_size
        digest.update(f'{path.name} {size}\n'.encode())
        with open(path, 'rb') as file:
            if size <= _WHOLE_BYTES:
                digest.update(file.read())
                continue
            digest.update(file.read(_BEGINNING_BYTES))
            for block in range(_NUM_BLOCKS):
                file.seek(block * (size - _BLOCK_BYTES) // (_NUM_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
