"""The exceptions of the boundary: what the user gave us is wrong, or the user wants an end."""

import signal
from typing import Any


class InputError(ValueError):
    """Bad input found at a boundary: a file, a model, an adapter.

    The message is one line that names the file, the value seen and what was expected.
    `lorajax.launch` prints it without a traceback and exits with status 2; anything else that
    escapes is a defect of lorajax and keeps its traceback.
    """


class ArgumentError(InputError):
    """An argument of a library function has a value that does not fit.

    The library speaks of its argument; the command layer, which knows what the user typed,
    prints the same as `--argument=value: problem`.

    Attributes:
      argument: name of the argument, which is also the flag's name where there is one.
      value: what was given; None where the problem says it all.
      problem: what was expected instead.
    """

    def __init__(self, argument: str, value: Any, problem: str) -> None:
        name = argument if value is None else f'{argument} {value}'
        super().__init__(f'{name}: {problem}')
        self.argument = argument
        self.value = value
        self.problem = problem


class Interrupted(KeyboardInterrupt):
    """A signal asks for an end; everything on the way out is closed as after an error.

    Attributes:
      status: exit status that a shell and a scheduler understand, 128 + the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
