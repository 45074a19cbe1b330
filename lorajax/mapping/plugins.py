"""Mapping methods of other packages, found by entry points of the group `lorajax.methods`.

    [project.entry-points."lorajax.methods"]
    half_mean = "my_package:HALF_MEAN"

A package's code is imported when its method is asked for by name, and not before.
"""

import importlib.metadata
from typing import Any

from lorajax.errors import InputError

GROUP = 'lorajax.methods'


def names() -> tuple[str, ...]:
    """Returns the methods that installed packages offer, sorted."""
    return tuple(sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)}))


def load(name: str) -> Any:
    """Returns what a package offers under a name; None if there is no such name.

    Raises:
      InputError: naming the package, if its code cannot be imported, or two offer the name.
    """
    found = {
        (entry.value, entry.dist.name if entry.dist else ''): entry
        for entry in importlib.metadata.entry_points(group=GROUP, name=name)
    }
    if not found:
        return None
    if len(found) > 1:
        packages = ', '.join(sorted(package or value for value, package in found))
        raise InputError(f'mapping method {name!r}: is offered by {packages}, expected one')
    ((value, package), entry), = found.items()  # fmt: skip
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f'mapping method {name!r}: {value} of {package or "a package"} cannot be imported '
            f'({error})'
        ) from None
