"""What a name in a table of outcomes stands for: a learned map, a reference, a training.

`mapping.METHODS` says of each mapping whether it counts as learned; here stand the names that
are no mapping.
"""

from lorajax.errors import InputError
from lorajax.mapping import method_named

REWEIGHTED, DISTILLED = 'reweighted', 'distilled'
_TRAINED_WORDS = {
    REWEIGHTED: "anchors put together anew, fitted to the source's answers",
    DISTILLED: "a training on the source's answers",
}
# Methods that fit or train on the target, on answers of the source: more than a map.
TRAINED_METHODS = (REWEIGHTED, DISTILLED)

_TRIVIAL_NEEDS = {
    'base': 'nothing',
    'oracle': 'the task, a training',
    'repeated': 'the task, a training',
    REWEIGHTED: 'adapters, both models, prompts',
    DISTILLED: 'adapters, both models, prompts, a training',
}


def is_learned(method: str) -> bool:
    """Returns whether a name in a table of outcomes stands for a learned map.

    Base, oracle and trainings are none, and neither are mappings that say so of themselves: the
    headline cannot be won by one of them. A name that is not known here, such as one of a package
    that is not installed, counts as learned.
    """
    if method in _TRIVIAL_NEEDS:
        return False
    try:
        return method_named(method).is_learned
    except InputError:
        return True  # of a table that was made elsewhere


def does(method: str) -> str:
    """Returns in one line what a method does; '' for names that are neither map nor training."""
    if method in _TRIVIAL_NEEDS:
        return _TRAINED_WORDS.get(method, '')
    try:
        return method_named(method).summary
    except InputError:
        return ''  # of a table that was made elsewhere


def needs(method: str) -> str:
    """Returns in words what a method must be given, for tables in which that differs.

    Args:
      method: name of a mapping, or another that outcomes have; '' is returned for unknown ones.
    """
    if method in _TRIVIAL_NEEDS:
        return _TRIVIAL_NEEDS[method]
    if method.startswith('span_oracle'):
        return 'adapters, the oracle'
    try:
        known = method_named(method)
    except InputError:
        return ''  # of a table that was made elsewhere
    return 'adapters, both models' if known.needs else 'adapters'
