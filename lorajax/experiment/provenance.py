"""What a result was made with: libraries, commit, content of files."""

import hashlib
import importlib.metadata
import pathlib
import subprocess

_LIBRARIES = (
    'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'transformers', 'datasets',
    'safetensors', 'numpy', 'scikit-learn',
)  # fmt: skip


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


def hash_files(directory: pathlib.Path, pattern: str) -> str:
    """Returns the SHA-256 over names and contents of the files that match a glob pattern."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob(pattern)):
        digest.update(path.name.encode())
        with open(path, 'rb') as file:
            digest.update(hashlib.file_digest(file, 'sha256').digest())
    return digest.hexdigest()
