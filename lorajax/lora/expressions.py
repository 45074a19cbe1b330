"""Regular expressions of other people's adapters, matched within a time limit.

`(a+)+$` takes exponential time in the length of a name. `re` cannot be stopped, `regex` can.
"""

import regex

from lorajax import io
from lorajax.errors import InputError

# A match takes microseconds; an adapter asks for some hundred names.
_SECONDS = 1.0


def match(expression: str, name: str, *, whole: bool = False) -> 'regex.Match[str] | None':
    """Returns the match at the beginning of a name, None if there is none.

    Args:
      expression: checked to be one.
      name: of a module.
      whole: whether it must match the whole name.

    Raises:
      InputError: if it does not end within a second, or `regex` takes it for no expression.
    """
    function = regex.fullmatch if whole else regex.match
    try:
        return function(expression, name, timeout=_SECONDS)
    except TimeoutError:
        raise InputError(
            f'the expression {io.show(expression)} takes more than {_SECONDS:g} s on {name}'
        ) from None
    except regex.error as error:
        raise InputError(
            f'the expression {io.show(expression)} is none: {io.shorten(str(error))}'
        ) from None
