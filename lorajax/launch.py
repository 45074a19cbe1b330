"""Entry: `python -m lorajax.launch [command] --flagfile=launch/NAME.flags [--flag=value ...]`.

A command line becomes a command and its values, and the library does the rest. Bad input ends in
one line on standard error and exit status 2, an interruption in one line and 130 or 143.
"""

import atexit
import logging as python_logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

import lorajax
from lorajax import progress
from lorajax.errors import ArgumentError, InputError, Interrupted

_BAD_INPUT = 2
_HELP = {'-h', '-help', '--help', '--helpshort', '--helpfull'}  # the last two as of absl
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> None:
    """Console script `lorajax`: does what the command line says and exits with a status.

    Args:
      arguments: without the program's name; those of the process by default.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    atexit.register(_ignore_signals)
    # A line that PyTorch is missing, which is not needed.
    os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:  # closed by who started it
            setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115  as long as the process
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except ArgumentError as error:
        _fail(_describe(error), _BAD_INPUT)
    except InputError as error:
        _fail(str(error), _BAD_INPUT)
    except BrokenPipeError:  # as `lorajax help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        _fail(_describe_os_error(error), _BAD_INPUT)
    except Interrupted as error:
        _fail(f'ended by {error}; the same command goes on from what is stored', error.status)
    except MemoryError as error:
        _fail(_describe_lack(error), _BAD_INPUT)
    except (RuntimeError, ValueError) as error:
        from lorajax import processes

        if 'RESOURCE_EXHAUSTED' in str(error):  # as XLA says it
            _fail(_describe_lack(error), _BAD_INPUT)
        if not processes.is_loss(error):
            raise
        processes.leave(processes.LOST)


def _run(arguments: list[str]) -> None:
    """Prints help, or runs the command."""
    # A signal during this import is heard, too.
    from lorajax.commands import compilation_cache, dry_run, help, joining, parse

    _log_to_stderr()
    if arguments and arguments[0] in ('--version', '-version'):
        print(f'lorajax {lorajax.__version__}')
        return
    if not arguments or arguments[0] in ('help', *_HELP):
        named = arguments[1:2]
        print(help.of_command(parse.command_named(named[0])) if named else help.overview())
        return
    if _HELP & set(arguments):
        name = 'run' if arguments[0].startswith('-') else arguments[0]
        print(help.of_command(parse.command_named(name)))
        return
    is_dry, arguments = parse.take_dry_run(arguments)
    command, values, experiment = parse.parse(arguments)
    if is_dry:
        print('\n'.join(dry_run.describe(command, values, experiment)))
        return
    if isinstance(values, joining.Flags):
        together = joining.joint(values, os.environ, getattr(values, 'num_shards', 1) > 1)
        if together and not joining.is_child(os.environ):
            sys.exit(joining.supervise(arguments))
        if together:
            joining.enter(together)
    if 'compilation_cache' in command.settings:
        compilation_cache.enable(experiment.compilation_cache)
    start = time.monotonic()
    command.run(values, experiment)
    logging.info('%s: done in %.0f s', command.name, time.monotonic() - start)


def _interrupt(number: int, frame: Any) -> None:
    """Ends the work in an orderly way; the same signal once more ends the process at once."""
    del frame
    signal.signal(number, signal.SIG_DFL)
    progress.interrupt(Interrupted(number))


def _describe(error: ArgumentError) -> str:
    """Returns the line for a bad argument, which the user knows as a flag."""
    value = '' if error.value is None else f'={error.value}'
    return f'--{error.argument}{value}: {error.problem}'


def _describe_os_error(error: OSError) -> str:
    """Returns the line for a file or a disk that refuses."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        source, destination, problem = error.args[0][0]  # of copying a tree
        return f'{destination}: cannot be copied from {source}: {problem}'
    path = error.filename2 or error.filename
    problem = error.strerror or str(error) or type(error).__name__
    return f'{os.fsdecode(path)}: {problem}' if isinstance(path, str | bytes) else problem


def _describe_lack(error: Exception) -> str:
    """Returns the line for memory that does not suffice, of the host or of a device."""
    reason = ' '.join(str(error).split())[:200]
    return f'out of memory ({reason}); lorajax doctor with the same flags says what fits'


def _fail(message: str, status: int) -> None:
    """Prints one line and exits."""
    print(f'lorajax: {" ".join(message.split())}', file=sys.stderr)
    if 'lorajax.processes' in sys.modules:
        sys.modules['lorajax.processes'].leave(status)
    sys.exit(status)


def _ignore_signals() -> None:
    """Lets a command that is done keep its status while the interpreter takes itself apart."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _log_to_stderr() -> None:
    """Shows lorajax's own progress lines, without those of the libraries below it."""
    flags.FLAGS.mark_as_parsed()  # those of absl's own logging, which keep their defaults
    logging.use_absl_handler()
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    handler.addFilter(_is_shown)
    logging.set_verbosity(logging.INFO)
    sys.unraisablehook = _show_unraisable


def _is_shown(record: python_logging.LogRecord) -> bool:
    """Whether a record is lorajax's own, or an error of a library that says it in no other way.

    Orbax's threads log every exception that `save` or `close` then raises.
    """
    is_own = record.pathname.startswith(os.path.dirname(__file__))
    is_orbax = f'{os.sep}orbax{os.sep}' in record.pathname
    return is_own or (record.levelno >= python_logging.ERROR and not is_orbax)


def _show_unraisable(hook: 'sys.UnraisableHookArgs') -> None:
    """Shows what nobody can catch, but for writes that end after the first that failed.

    Tensorstore tells each of them to a loop that orbax has closed by then.
    """
    if str(hook.exc_value) != 'Event loop is closed':
        sys.__unraisablehook__(hook)


if __name__ == '__main__':
    main()
