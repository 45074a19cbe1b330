"""Runs a command as the command line does, in this process."""

from lorajax.commands import parse


def run(*arguments):
    """Parses arguments and does what they say; errors are the library's own."""
    command, flags, experiment = parse.parse([str(argument) for argument in arguments])
    command.run(flags, experiment)
