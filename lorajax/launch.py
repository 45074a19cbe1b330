"""Entry: `python -m lorajax.launch [command] --flagfile=launch/NAME.flags [--flag=value ...]`.

Flags become an `Experiment` or a command's arguments, and the library does the rest. Bad
input ends in one line on standard error and exit status 2.
"""

import dataclasses
import errno
import logging as python_logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging

from lorajax import commands
from lorajax.errors import InputError
from lorajax.experiment.config import EXPERIMENTS, STAGES, Experiment
from lorajax.lora import TARGETS

_DEFAULTS = Experiment()
_FLAGS = flags.FLAGS


def _define_experiment() -> None:
    """Defines one flag for each field of `Experiment`, with the toy world as default."""
    d = _DEFAULTS
    flags.DEFINE_string('workdir', d.workdir, 'where all files of the run go')
    flags.DEFINE_list('stages', list(d.stages), f'which of {",".join(STAGES)} to do')
    for side in ('source', 'target'):
        default = getattr(d, f'{side}_model')
        flags.DEFINE_string(
            f'{side}_model', default, 'directory in HF format, owner/name[@revision] or toy-...'
        )
    flags.DEFINE_string('data_dir', d.data_dir, 'data sets as <name>/<split>.jsonl; else the hub')
    flags.DEFINE_list('anchors', list(d.anchors), 'tasks with adapters on both models')
    flags.DEFINE_list('heldouts', list(d.heldouts), 'tasks whose target adapter is predicted')
    flags.DEFINE_list('methods', list(d.methods), 'mappings to fit and evaluate')
    flags.DEFINE_string('distill_from', d.distill_from, "where 'distilled' starts, or fresh")
    flags.DEFINE_integer('activation_places', d.activation_places, 'of activation methods', 1)
    flags.DEFINE_bool('diagnostics', d.diagnostics, 'placebo, span oracle, repeated training')
    flags.DEFINE_list('experiments', list(d.experiments), '1: main table, 2: scaling, 3: transfer')
    counts = list(map(str, d.anchor_counts))
    flags.DEFINE_list('anchor_counts', counts, 'experiment 2: numbers of anchors')
    flags.DEFINE_integer('anchor_draws', d.anchor_draws, 'experiment 2: choices of them', 1)
    top_k_grid = list(map(str, d.top_k_grid))
    flags.DEFINE_list('top_k_grid', top_k_grid, 'experiment 2: nearest anchors, beside all')
    flags.DEFINE_list('scaling_methods', list(d.scaling_methods), 'experiment 2: mappings')
    flags.DEFINE_list('transfer_methods', list(d.transfer_methods), 'experiment 3: mappings')
    flags.DEFINE_integer('study_items', d.study_items, 'experiments 2, 3: items per held-out', 1)
    flags.DEFINE_enum('protocol', d.protocol, ['direct', 'cot'], 'how answers are asked for')
    flags.DEFINE_integer('top_k', d.top_k, 'anchors of the topk_ methods', lower_bound=1)
    flags.DEFINE_integer('lora_rank', d.lora_rank, 'rank of adapters', lower_bound=1)
    flags.DEFINE_float('lora_alpha', d.lora_alpha, 'scale is alpha / rank', lower_bound=1e-6)
    flags.DEFINE_list('lora_targets', list(d.lora_targets), f'some of {",".join(TARGETS)}')
    flags.DEFINE_integer('output_rank', d.output_rank, 'of predictions; 0: as the anchors', 0)
    flags.DEFINE_float('num_epochs', d.num_epochs, 'passes over the data', lower_bound=1e-6)
    flags.DEFINE_integer('train_per_task', d.train_per_task, 'most training items', lower_bound=1)
    flags.DEFINE_integer('batch_size', d.batch_size, 'items per step and adapter', lower_bound=1)
    flags.DEFINE_float('learning_rate', d.learning_rate, 'peak', lower_bound=0.0)
    schedules = ['cosine', 'linear', 'constant']
    flags.DEFINE_enum('schedule', d.schedule, schedules, 'learning rate after the warm-up')
    flags.DEFINE_float('warmup_ratio', d.warmup_ratio, 'share of the steps', 0.0, 1.0)
    flags.DEFINE_float('weight_decay', d.weight_decay, "AdamW's", lower_bound=0.0)
    flags.DEFINE_float('max_grad_norm', d.max_grad_norm, 'gradients are clipped to it', 1e-9)
    flags.DEFINE_integer('eval_per_task', d.eval_per_task, 'most items per held-out', 1)
    flags.DEFINE_integer('eval_batch_size', d.eval_batch_size, 'prompts decoded together', 1)
    flags.DEFINE_integer('max_len', d.max_len, 'tokens of prompt and answer', lower_bound=8)
    flags.DEFINE_integer('max_new_tokens', d.max_new_tokens, '0: longest answer of the task', 0)
    flags.DEFINE_integer('adapters_per_step', d.adapters_per_step, '0: all in one batch', 0)
    dtypes = ['float32', 'bfloat16']
    flags.DEFINE_enum('param_dtype', d.param_dtype, dtypes, 'base weights in memory')
    flags.DEFINE_enum('dtype', d.dtype, dtypes, 'of the computation')
    flags.DEFINE_enum('remat', d.remat, ['none', 'dots', 'full'], 'what backward recomputes')
    flags.DEFINE_list('mesh', list(map(str, d.mesh)), 'devices on data,fsdp,tensor; -1: the rest')
    flags.DEFINE_integer('seed', d.seed, 'of data, order and initialisation', lower_bound=0)
    flags.DEFINE_bool('separate_init', d.separate_init, 'every adapter draws its own initial a')
    flags.DEFINE_integer('checkpoint_every', d.checkpoint_every, 'steps between states', 1)
    flags.DEFINE_bool('allow_code_execution', d.allow_code_execution, 'run generated programs')


def experiment_from_flags() -> Experiment:
    """Builds the `Experiment` that the parsed flags describe.

    Raises:
      InputError: naming the flag, for values that absl's own checks do not cover.
    """
    values: dict[str, Any] = {
        field.name: _FLAGS[field.name].value for field in dataclasses.fields(Experiment)
    }
    for name, value in values.items():
        if isinstance(value, list):
            if not value:
                raise InputError(f'--{name}: is empty, expected at least one value')
            values[name] = tuple(value)
    for name in ('mesh', 'anchor_counts', 'top_k_grid'):
        values[name] = _integers(name, values[name])
    if len(values['mesh']) != 3:
        raise InputError(f'--mesh={",".join(_FLAGS.mesh)}: expected three integers')
    for name in ('anchor_counts', 'top_k_grid'):
        if min(values[name]) < 1:
            shown = ','.join(map(str, values[name]))
            raise InputError(f'--{name}={shown}: expected numbers from 1 on')
    choices = (('stages', STAGES), ('lora_targets', TARGETS), ('experiments', EXPERIMENTS))
    for name, known in choices:
        for value in values[name]:
            if value not in known:
                raise InputError(f'--{name}={value}: expected some of {",".join(known)}')
    values['lora_targets'] = tuple(name for name in TARGETS if name in values['lora_targets'])
    return Experiment(**values)


def _integers(name: str, words: Sequence[str]) -> tuple[int, ...]:
    """Reads a list flag of integers."""
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        raise InputError(f'--{name}={",".join(words)}: expected integers') from None


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags; a bad one ends in one line, and --help in the help."""
    if argv[1:2] == ['help'] or {'--help', '-help', '-h'} & set(argv[1:]):
        print(_help(argv[1] if argv[1] in commands.COMMANDS else None))
        sys.exit(0)
    try:
        return _FLAGS(list(argv))
    except flags.Error as error:
        _fail(str(error))
        raise AssertionError('unreachable') from None


def _help(command: str | None) -> str:
    """Returns what the commands do and which flags they read, or the same of one command."""
    modules = _FLAGS.flags_by_module_dict()
    # Flags of single commands begin their help with the commands' names.
    own = [
        flag
        for flag in modules[commands.__name__]
        if command is None or command in (flag.help or '').split(':')[0].split(', ')
    ]
    shared = modules[__name__ if __name__ in modules else sys.argv[0]]
    lines = ['usage: lorajax COMMAND [--flagfile=launch/NAME.flags] [--flag=value ...]', '']
    for name in [command] if command else commands.COMMANDS:
        doc = commands.COMMANDS[name].__doc__ or ''
        lines.append(f'  {name:<10} {doc.strip().splitlines()[0]}')
    for title, listed in (('of commands', own), ('of runs and recipes', shared)):
        if listed:
            lines += ['', f'flags {title}:', *(_flag_line(flag) for flag in listed)]
    return '\n'.join(lines)


def _flag_line(flag: Any) -> str:
    """Returns name, help and, if it is short, the default of a flag."""
    default = '' if flag.default in (None, '') else f' ({flag.default_as_str})'
    return f'  --{flag.name}: {flag.help}{default if len(default) < 60 else ""}'


def _fail(message: str) -> None:
    """Prints one line and exits with status 2."""
    print(f'lorajax: {" ".join(message.split())}', file=sys.stderr)
    sys.exit(2)


def _log_to_stderr() -> None:
    """Shows lorajax's own progress lines, without those of the libraries below it."""
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    package = os.path.dirname(__file__)
    handler.addFilter(
        lambda record: record.levelno >= python_logging.ERROR or record.pathname.startswith(package)
    )
    logging.set_verbosity(logging.INFO)


def _main(argv: Sequence[str]) -> None:
    """Runs the command named on the command line."""
    _log_to_stderr()
    name, *rest = argv[1:] or ['run']
    if name not in commands.COMMANDS or rest:
        _fail(f'{" ".join([name, *rest])}: expected one of {", ".join(commands.COMMANDS)}')
    start = time.monotonic()
    try:
        commands.COMMANDS[name](experiment_from_flags(), _FLAGS)
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        _fail(f'{error.filename}: {error.strerror}')
    logging.info('%s: done in %.0f s', name, time.monotonic() - start)


def main() -> None:
    """Console script `lorajax`."""
    app.run(_main, flags_parser=_parse)


_define_experiment()
commands.define_flags()

if __name__ == '__main__':
    main()
