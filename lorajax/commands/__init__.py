"""The commands of `lorajax.launch`."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import flags, logging

from lorajax import io, mapping, sharding, toy
from lorajax.distillation import teacher
from lorajax.errors import InputError
from lorajax.evaluation import intervals, outcomes
from lorajax.evaluation.evaluate import evaluate as evaluate_task
from lorajax.evaluation.inference import decode_length
from lorajax.experiment import memory, pipeline
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages import common
from lorajax.experiment.stages.common import PROVENANCE, save_predicted
from lorajax.experiment.stages.prepare import check_execution
from lorajax.experiment.stages.report import rebuild_report
from lorajax.lora import LoraConfig, load_peft, save_peft
from lorajax.lora.peft.files import DTYPES
from lorajax.mapping import model_card, pairs
from lorajax.models import Model, Sampling, load_model, merge_and_save
from lorajax.models.hf import checkpoint
from lorajax.tasks import data, sft_rows
from lorajax.tasks.batching import pad_left
from lorajax.tasks.chat import ChatFormat, load_chat_format
from lorajax.training import train_adapters
from lorajax.types import Adapter


def run(experiment: Experiment, args: Any) -> None:
    """Does every stage that is not done yet."""
    del args
    done = pipeline.run(experiment)
    if not done:
        logging.info('%s: everything is done already', experiment.workdir)
    if 'report' in experiment.stages:
        logging.info('report: %s', experiment.files.report / 'ROUND4_REPORT.md')


def report(experiment: Experiment, args: Any) -> None:
    """Rebuilds results.json, tables and figures from stored outcomes; needs no model."""
    del args
    rebuild_report(experiment.files)
    logging.info('report: %s', experiment.files.report / 'ROUND4_REPORT.md')


def translate(experiment: Experiment, args: Any) -> None:
    """Turns one source adapter into a target adapter; needs neither base model nor data.

    Raises:
      InputError: if the adapter belongs to another base than the mapping's source, or its
        shapes differ from the anchors'; if the output exists.
    """
    del experiment
    directory, output = pathlib.Path(_given(args, 'mapping')), _new_directory(args)
    bases = _bases(directory / PROVENANCE)
    fitted = mapping.load(directory)
    config, adapter = load_peft(_given(args, 'adapter'))
    if config.base_model and config.base_model != bases['source']:
        raise InputError(
            f'--adapter={args.adapter}: belongs to {config.base_model}, the mapping translates '
            f'adapters of {bases["source"]}'
        )
    try:
        prediction = fitted.explain(adapter)
    except InputError as error:
        raise InputError(f'--adapter={args.adapter}: {error}') from None
    text = model_card.model_card(
        bases=bases,
        adapter=str(args.adapter),
        mapping=str(directory),
        diagnostics=fitted.diagnostics,
        report=prediction.report,
    )
    with io.atomic_directory(output) as partial:
        save_predicted(partial, prediction.adapter, bases['target'], args.adapter_dtype)
        io.write_text(partial / 'README.md', text)
    logging.info('expected quality: %s', model_card.expectation(fitted.diagnostics))
    distance = prediction.report.get('distance_to_span')
    if distance is not None:
        logging.info('share of the adapter outside of what the anchors span: %.2f', distance)
    if caution := model_card.warning(fitted.diagnostics, prediction.report):
        logging.warning('%s', caution)
    logging.info('%s adapter for %s: %s', fitted.method, bases['target'], output)


def _bases(path: pathlib.Path) -> dict[str, str]:
    """Reads which base models a mapping is between."""
    bases = io.read_json(path)
    if not isinstance(bases, dict) or not all(isinstance(bases.get(s), str) for s in pairs.SIDES):
        raise InputError(f'{path}: is {bases!r}, expected the names of source and target')
    return bases


def fit_map(experiment: Experiment, args: Any) -> None:
    """Fits a mapping on pairs of adapters that exist already; needs neither models nor data.

    Raises:
      InputError: if half of a pair is missing or shapes differ within a side; if the output
        exists.
    """
    output = _new_directory(args)
    source, target, bases = pairs.read(pathlib.Path(_given(args, 'pairs')))
    fitted = mapping.fit(
        args.method, source, target,
        output_rank=experiment.output_rank or None, seed=experiment.seed,
    )  # fmt: skip
    with io.atomic_directory(output) as partial:
        fitted.save(partial)
        io.write_json(partial / PROVENANCE, bases)
    scores = fitted.diagnostics
    logging.info('expected quality: %s', model_card.expectation(scores))
    by_anchor = scores.get('loo_r2_by_anchor') or []
    for task, score in zip(fitted.tasks, by_anchor, strict=False):
        logging.info('  %s: R2 %.3f when left out', task, score)
    logging.info('%s mapping of %d pairs: %s', fitted.method, len(fitted.tasks), output)


def generate(experiment: Experiment, args: Any) -> None:
    """Prints what a model answers to a prompt, with or without an adapter."""
    _given(args, 'prompt')  # before anything is loaded
    model, chat = _load(experiment, args)
    adapter = _load_adapter(args.adapter, model) if args.adapter else None
    prompt = chat.encode_prompt(args.prompt, args.system)
    tokens, mask = pad_left([prompt], 1, len(prompt), chat.pad_id)
    output = model.generate(
        tokens,
        mask,
        adapter,
        max_new_tokens=experiment.max_new_tokens or 256,
        eos_ids=chat.stop_ids,
        pad_id=chat.pad_id,
        sampler=Sampling(args.temperature) if args.temperature else None,
    )
    print(chat.decode(np.asarray(output)[0]))


def evaluate(experiment: Experiment, args: Any) -> None:
    """Prints how a model and adapters of it score on tasks, all in one batch, one base load.

    With --output the outcomes, one row per item and adapter, become that JSON-lines file.
    """
    tasks = args.tasks or []
    if not tasks:
        raise InputError('--tasks: is missing, this command needs it')
    output = pathlib.Path(args.output) if args.output else None
    if output and output.exists():
        raise InputError(f'--output={output}: exists already, expected a new file')
    check_execution(tasks, experiment.allow_code_execution)
    drawn = data.draw(
        (),
        tasks_by_name.get_all(tasks),
        data.DataSource(experiment.data_dir or None),
        experiment.train_per_task,
        experiment.eval_per_task,
        experiment.seed,
        experiment.protocol,
    )
    model, chat = _load(experiment, args)
    adapters: dict[str, Adapter | None] = {'base': None}
    for directory in args.adapters or []:
        adapters[directory] = _load_adapter(directory, model)
    rows = []
    for name in tasks:
        found = evaluate_task(
            model,
            chat,
            tasks_by_name.get(name),
            drawn[name].eval,
            adapters,
            batch_size=experiment.eval_batch_size,
            max_len=experiment.max_len,
            max_new_tokens=experiment.max_new_tokens or decode_length(chat, drawn[name].train),
            adapters_per_step=experiment.adapters_per_step,
            allow_code_execution=experiment.allow_code_execution,
        )
        rows += found
        for adapter in adapters:
            mine = [row for row in found if row['method'] == adapter]
            correct, count = sum(row['correct'] for row in mine), len(mine)
            low, high = intervals.wilson(correct, count) or (0.0, 1.0)
            nll = outcomes.mean_nll(mine)
            loss = 'loss not finite' if nll is None else f'{nll:.3f} nats per answer token'
            print(
                f'{name}  {adapter}  {correct}/{count} = {correct / count:.3f} '
                f'[{low:.3f}, {high:.3f}]  {loss}'
            )
    if output:
        io.write_jsonl(output, rows)


def train(experiment: Experiment, args: Any) -> None:
    """Trains one adapter on one task, or on rows of the user's own, and writes it."""
    output = _new_directory(args)
    if bool(args.task) == bool(args.train_file):
        raise InputError('--task, --train_file: expected one of the two')
    label = args.task or args.train_file
    if args.task:
        source = data.DataSource(experiment.data_dir or None)
        task = tasks_by_name.get(args.task)
        drawn = data.draw_training(
            task, tasks_by_name.heldouts_beside(task), source, experiment.train_per_task,
            experiment.eval_per_task, experiment.seed, experiment.protocol,
        )  # fmt: skip
        if drawn.unreserved:
            logging.warning(
                'no rows of %s: their items could not be kept out of training',
                ', '.join(drawn.unreserved),
            )
        model, chat = _load(experiment, args)
        encoded = common.encode(chat, drawn.examples, experiment.max_len, label)
    else:
        rows = sft_rows.read(pathlib.Path(label))
        chat = load_chat_format(_directory(args))
        conversations = [chat.encode_conversation(row) for row in rows]
        encoded = common.fit(conversations, experiment.max_len, label)
        model, _ = _load(experiment, args)
    trained = train_adapters(
        model, {label: encoded}, experiment.train_config, pad_id=chat.pad_id, label=label
    )
    config = LoraConfig(
        rank=experiment.lora_rank,
        alpha=experiment.lora_alpha,
        targets=experiment.lora_targets,
        base_model=args.model,
    )
    save_peft(output, config, trained[label], dtype=args.adapter_dtype)
    logging.info('adapter of %d examples: %s', len(encoded), output)


def distill(experiment: Experiment, args: Any) -> None:
    """Trains a target adapter on what the source model answers with its adapter.

    Needs prompts, but no answers: they may be of other tasks. With --mapping the training goes on
    from the translated adapter, else from a fresh one.

    Raises:
      InputError: on bad prompts, an adapter of another rank than --lora_rank where a mapping is
        given, a source model that finishes no answer, or an output that exists.
    """
    output = _new_directory(args)
    prompts = teacher.read_prompts(pathlib.Path(_given(args, 'prompts')))
    _given(args, 'adapter')  # before anything is loaded
    model, chat = common.load_named(experiment, experiment.source_model)
    adapter = _load_adapter(args.adapter, model)
    config = dataclasses.replace(experiment.train_config, targets=tuple(adapter['layers']))
    start = None
    if args.mapping:
        start = mapping.load(args.mapping).predict(adapter)
        ranks = {entry['a'].shape[-1] for entry in start['layers'].values()}
        if ranks != {config.rank}:
            raise InputError(
                f'--lora_rank={config.rank}: the mapping predicts rank {max(ranks)}; give that'
            )
        config = dataclasses.replace(config, targets=tuple(start['layers']))
    answers = teacher.answer(
        model,
        chat,
        {'adapter': adapter},
        prompts,
        batch_size=experiment.eval_batch_size,
        max_len=experiment.max_len,
        max_new_tokens=experiment.max_new_tokens or 256,
    )['adapter']
    lessons = teacher.lessons(prompts, answers, -(-len(prompts) // 2), args.adapter)
    model, chat = common.load_named(experiment, experiment.target_model)
    encoded = common.encode(chat, lessons, experiment.max_len, args.prompts)
    trained = train_adapters(
        model,
        {'distilled': encoded},
        config,
        pad_id=chat.pad_id,
        label='distilled',
        start_from={'distilled': start} if start else None,
    )
    written = LoraConfig(
        rank=config.rank,
        alpha=config.alpha,
        targets=config.targets,
        base_model=experiment.target_model,
    )
    save_peft(output, written, trained['distilled'], dtype=args.adapter_dtype)
    logging.info('adapter of %d answers to %d prompts: %s', len(encoded), len(prompts), output)


def merge(experiment: Experiment, args: Any) -> None:
    """Writes a model with an adapter folded into its weights; any program of HF models loads it.

    Raises:
      InputError: if the adapter does not fit the model, or the output exists.
    """
    del experiment
    name, output = _given(args, 'model'), _new_directory(args)
    directory = checkpoint.resolve(str(toy.MODELS.get(name, name)))
    config = merge_and_save(directory, _given(args, 'adapter'), output)
    if config.base_model and config.base_model not in (name, str(directory)):
        logging.warning(
            '--adapter=%s: belongs to %s by its config, merged into %s',
            args.adapter, config.base_model, name,
        )  # fmt: skip
    logging.info('merged model: %s', output)


def doctor(experiment: Experiment, args: Any) -> None:
    """Says what this machine has and what a flagfile, or training on --model, needs of it."""
    if args.model:
        experiment = dataclasses.replace(
            experiment, adapters_per_step=experiment.adapters_per_step or 1
        )
    print('\n'.join(memory.describe(experiment, args.model)))


def _load(experiment: Experiment, args: Any) -> tuple[Model, ChatFormat]:
    """Loads the model that --model names, and its chat format."""
    directory = _directory(args)
    chat = load_chat_format(directory)  # before the weights: it is quick to fail
    mesh = sharding.make_mesh(experiment.mesh)
    model = load_model(
        str(directory), experiment.param_dtype, experiment.dtype, mesh, experiment.remat
    )
    return model, chat


def _directory(args: Any) -> pathlib.Path:
    """Returns the directory of the model that --model names."""
    name = _given(args, 'model')
    return checkpoint.resolve(str(toy.MODELS.get(name, name)))


def _load_adapter(directory: str, model: Model) -> Adapter:
    """Reads an adapter that must have the model's depth and widths."""
    return load_peft(directory, model.config.num_layers, model.config.projections)[1]


def _given(args: Any, name: str) -> str:
    """Returns a flag's value; raises `InputError` if the command line lacks it."""
    value = getattr(args, name)
    if not value:
        raise InputError(f'--{name}: is missing, this command needs it')
    return value


def _new_directory(args: Any) -> pathlib.Path:
    """Returns --output, which must be absent or an empty directory."""
    output = pathlib.Path(_given(args, 'output'))
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f'--output={output}: exists already, expected a new directory')
    return output


COMMANDS: Mapping[str, Callable[[Experiment, Any], None]] = {
    'run': run,
    'report': report,
    'translate': translate,
    'map': fit_map,
    'train': train,
    'evaluate': evaluate,
    'generate': generate,
    'distill': distill,
    'merge': merge,
    'doctor': doctor,
}


def define_flags() -> None:
    """Defines the flags of single commands."""
    flags.DEFINE_string('mapping', None, 'translate, distill: fitted mapping, RUN/mappings/METHOD')
    flags.DEFINE_string('adapter', None, 'translate, generate, distill, merge: in PEFT format')
    flags.DEFINE_string('pairs', None, 'map: directory of <task>/{source,target} adapters')
    flags.DEFINE_string('method', 'matched_scaled', 'map: a name of lorajax.mapping.METHODS')
    flags.DEFINE_string(
        'output', None, 'translate, map, train, distill, merge: new directory; evaluate: file'
    )
    flags.DEFINE_enum(
        'adapter_dtype', 'float32', DTYPES, 'translate, train, distill: of the file written'
    )
    flags.DEFINE_string(
        'model', None, 'train, evaluate, generate, merge, doctor: as --source_model'
    )
    flags.DEFINE_string('task', None, 'train: a task of lorajax/tasks/registry.py')
    flags.DEFINE_string(
        'train_file', None, 'train: JSON lines as of TRL, messages or prompt/completion'
    )
    flags.DEFINE_string('prompts', None, 'distill: JSON lines with a prompt each')
    flags.DEFINE_list('adapters', None, 'evaluate: adapters in PEFT format')
    flags.DEFINE_list('tasks', None, 'evaluate: task names')
    flags.DEFINE_string('prompt', None, 'generate: user message')
    flags.DEFINE_string('system', None, "generate: system message; else the template's own")
    flags.DEFINE_float('temperature', 0.0, 'generate: 0 takes the likeliest token', 0.0)
