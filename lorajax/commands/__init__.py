"""The commands of `python -m lorajax.launch`, one file each.

A file holds the command's own flags, the function that does it, and `COMMAND`, which says what
settings of an `Experiment` it reads. `parse` makes values of a command line, `help` says what
there is.
"""

from collections.abc import Mapping

from lorajax.commands import (
    distill,
    doctor,
    evaluate,
    generate,
    map,
    merge,
    push,
    report,
    run,
    train,
    translate,
)
from lorajax.commands.command import Command

COMMANDS: Mapping[str, Command] = {
    module.COMMAND.name: module.COMMAND
    for module in (
        run, translate, map, distill, train, evaluate, generate, merge, push, report, doctor
    )
}  # fmt: skip

__all__ = ['COMMANDS', 'Command']
