"""Names of base models: a directory, a hub id, a hub id at a revision, or a shipped one's."""

import os
import pathlib
import re

# The two checkpoints of the toy world, which the package brings along.
_CHECKPOINTS = pathlib.Path(__file__).parent / 'toy' / 'checkpoints'
SHIPPED = {'toy-source': _CHECKPOINTS / 'source', 'toy-target': _CHECKPOINTS / 'target'}

_HUB_NAME = re.compile(r'([\w.-]+/[\w.-]+)(?:@(\S+))?')


def split_revision(name: str) -> tuple[str, str | None]:
    """Splits 'owner/name@revision' into hub id and revision.

    Args:
      name: a directory, 'owner/name' or 'owner/name@revision', where the revision is a branch,
        a tag or a commit.

    Returns:
      The name without its revision, and the revision or None. Anything that is a directory,
      or does not look like a hub id, comes back whole.
    """
    match = _HUB_NAME.fullmatch(name)
    if not match or os.path.isdir(name):
        return name, None
    return match[1], match[2]


def join_revision(name: str | None, revision: str | None) -> str | None:
    """Undoes `split_revision`; the revision of what is no hub id means nothing and is left out."""
    return f'{name}@{revision}' if name and revision and is_hub_id(name) else name


def is_hub_id(name: str) -> bool:
    """Returns whether a name, without its revision, has the form owner/name."""
    match = _HUB_NAME.fullmatch(name)
    return match is not None and match[2] is None and not name.startswith('.')
