"""The stages of a run: prepare, train, map, evaluate, report.

Each stage looks at the files of the run, does what is missing, and leaves whole files. So a
second run does nothing, and a killed one goes on where it stopped.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging

from lorajax import experiment as experiment_lib
from lorajax import mapping, sharding, studies, toy, workdir
from lorajax.checkpoint import TrainCheckpoints
from lorajax.errors import InputError
from lorajax.evaluation import evaluate as evaluation
from lorajax.evaluation import report, results
from lorajax.experiment import Experiment
from lorajax.lora import LoraConfig, load_peft, pad_rank, save_peft
from lorajax.metrics import MetricWriter
from lorajax.models import Model, hf_io, load_model
from lorajax.models import config as config_lib
from lorajax.models.model import param_shardings
from lorajax.tasks import data, overlap, registry
from lorajax.tasks.prompts import ChatFormat, Encoded, load_chat_format, truncate
from lorajax.tasks.task import Example
from lorajax.training import train_adapters
from lorajax.types import Adapter, JsonDict

SIDES = ('source', 'target')

# Names the two base models of a mapping; written last, so it also marks the mapping as done.
PROVENANCE = 'bases.json'


def run(experiment: Experiment) -> list[str]:
    """Does every stage of an experiment that is asked for and not done yet.

    Args:
      experiment: what to do.

    Returns:
      The stages in which there was something to do.

    Raises:
      InputError: on bad flags, models or data, before anything is written where possible.
    """
    steps: dict[str, Callable[[Experiment], bool]] = {
        'prepare': prepare,
        'train': train,
        'map': fit_mappings,
        'evaluate': evaluate,
        'report': write_report,
    }
    for name in (
        *experiment.mapping_methods, *experiment.scaling_methods, *experiment.transfer_methods
    ):  # fmt: skip
        mapping.method_named(name)
    done = []
    with _lock(experiment):
        for stage in experiment_lib.STAGES:
            if stage not in experiment.stages:
                continue
            logging.info('stage %s', stage)
            if steps[stage](experiment):
                done.append(stage)
            else:
                logging.info('stage %s: nothing to do', stage)
    return done


@contextlib.contextmanager
def _lock(experiment: Experiment) -> Iterator[None]:
    """Keeps a second process out of the work directory; ends with the process."""
    root = experiment.files.root
    if root.exists() and not root.is_dir():
        raise InputError(f'--workdir={root}: is a file, expected a directory')
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with open(root / '.lock', 'w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f'--workdir={root}: another process is running there') from None
            workdir.remove_partial(root)
            yield
    finally:
        if new and not experiment.files.config.exists():
            shutil.rmtree(root, ignore_errors=True)


# --- prepare ------------------------------------------------------------------------------


def prepare(experiment: Experiment) -> bool:
    """Checks everything that can be checked early, draws the data, writes config.json.

    Raises:
      InputError: if the run was begun with other flags, a model or data set is not usable, or
        training and evaluation sets overlap.
    """
    files = experiment.files
    if files.config.exists():
        stored = workdir.read_json(files.config)
        experiment.check_same(stored)
        return False
    for side in SIDES:
        _check_model(experiment, side)
    source = data.DataSource(experiment.data_dir or None)
    drawn = data.draw(
        experiment.anchors,
        experiment.heldouts,
        source,
        experiment.train_per_task,
        experiment.eval_per_task,
        experiment.seed,
        experiment.protocol,
    )
    counts = overlap.matrix(drawn)
    overlap.check(counts)
    counts['before_the_rule'] = overlap.matrix(
        data.draw_raw(
            experiment.anchors,
            experiment.heldouts,
            source,
            experiment.eval_per_task,
            experiment.seed,
            experiment.protocol,
        )
    )['cells']
    for side, name in zip(SIDES, (experiment.source_model, experiment.target_model), strict=True):
        if name in toy.MODELS:
            with workdir.atomic_directory(files.model(side)) as directory:
                shutil.copytree(toy.MODELS[name], directory, dirs_exist_ok=True)
    workdir.write_json(files.overlap, counts)
    for name, examples in drawn.items():
        workdir.write_jsonl(files.train_data(name), [e.to_json() for e in examples.train])
        if examples.eval:
            workdir.write_jsonl(files.eval_data(name), [e.to_json() for e in examples.eval])
    workdir.write_json(files.config, _provenance(experiment))
    return True


def _check_model(experiment: Experiment, side: str) -> None:
    """Reads a model's config, tokenizer and tensor headers, and fits it to the mesh."""
    name = experiment.source_model if side == 'source' else experiment.target_model
    directory = hf_io.resolve(str(toy.MODELS.get(name, name)))
    config = config_lib.read(directory)
    hf_io.check_tensors(directory, config)
    load_chat_format(directory)
    param_shardings(sharding.make_mesh(experiment.mesh), config)


def _provenance(experiment: Experiment) -> JsonDict:
    """Returns the content of config.json."""
    models = {side: hf_io.resolve(experiment.model_directory(side)) for side in SIDES}
    drawn = hashlib.sha256()
    for path in sorted((experiment.files.root / 'data').rglob('*.jsonl')):
        drawn.update(path.name.encode() + path.read_bytes())
    return {
        'schema': 1,
        **experiment.to_json(),
        'domains': {name: registry.get(name).domain for name in experiment.tasks},
        'versions': experiment_lib.versions(),
        'git_commit': experiment_lib.git_commit(),
        'model_hashes': {
            side: experiment_lib.hash_files(path, '*.safetensors') for side, path in models.items()
        },
        'data_hash': drawn.hexdigest(),
        'device': jax.devices()[0].device_kind,
    }


def read_examples(path: pathlib.Path) -> list[Example]:
    """Reads examples that `prepare` wrote."""
    return [Example.from_json(row) for row in workdir.read_jsonl(path)]


# --- train --------------------------------------------------------------------------------


def train(experiment: Experiment) -> bool:
    """Trains the adapters of every task on both models, those that are missing."""
    _require_prepared(experiment)
    was_trained = [_train_side(experiment, side) for side in SIDES]
    shutil.rmtree(experiment.files.root / 'checkpoints', ignore_errors=True)
    return any(was_trained)


def _require_prepared(experiment: Experiment) -> None:
    """Refuses to go on without the files of the prepare stage."""
    if not experiment.files.config.exists():
        raise InputError(f'{experiment.files.config}: no such file; run the stage prepare first')


def _load(experiment: Experiment, side: str) -> tuple[Model, ChatFormat]:
    """Loads a base model of the run and its chat format."""
    name = experiment.model_directory(side)
    logging.info('loading the %s model %s', side, name)
    mesh = sharding.make_mesh(experiment.mesh)
    directory = hf_io.resolve(name)
    model = load_model(
        str(directory), experiment.param_dtype, experiment.dtype, mesh, experiment.remat
    )
    return model, load_chat_format(directory)


def _train_side(experiment: Experiment, side: str) -> bool:
    """Trains the missing adapters of one model; returns whether there were any."""
    files = experiment.files
    missing = [task for task in experiment.tasks if not files.adapter(side, task).exists()]
    if not missing:
        return False
    model, chat = _load(experiment, side)
    encoded = {
        task: encode(chat, read_examples(files.train_data(task)), experiment.max_len, task)
        for task in experiment.tasks
    }
    for group in _groups(encoded, experiment.adapters_per_step):
        if any(task in missing for task in group):
            _train_group(experiment, side, model, chat, {task: encoded[task] for task in group})
    return True


def encode(chat: ChatFormat, examples: Sequence[Example], max_len: int, task: str) -> list[Encoded]:
    """Returns training examples in tokens, without those whose answer does not fit."""
    return fit([chat.encode(example) for example in examples], max_len, task)


def fit(encoded: Sequence[Encoded], max_len: int, label: str) -> list[Encoded]:
    """Cuts examples to `max_len` tokens and leaves out those of which no answer is left.

    Raises:
      InputError: if none is left.
    """
    cut = [truncate(example, max_len) for example in encoded]
    kept = [example for example in cut if example is not None]
    if not kept:
        shortest = min(len(example.prompt) for example in encoded)
        raise InputError(
            f'--max_len={max_len}: no prompt of {label} leaves room for an answer, the shortest '
            f'has {shortest} tokens'
        )
    if len(kept) < len(encoded):
        dropped = len(encoded) - len(kept)
        logging.warning('%s: %d prompts of %d exceed --max_len', label, dropped, len(encoded))
    shortened = sum(
        example is not None and len(example.answer) < len(whole.answer)
        for example, whole in zip(cut, encoded, strict=True)
    )
    if shortened:
        logging.warning(
            '%s: %d answers of %d are cut at --max_len=%d, so their end is not learned',
            label, shortened, len(encoded), max_len,
        )  # fmt: skip
    return kept


def _groups(encoded: dict[str, list[Encoded]], size: int) -> list[list[str]]:
    """Splits tasks into groups trained together, similar lengths beside each other."""

    def mean_length(task: str) -> float:
        return sum(len(e.prompt) + len(e.answer) for e in encoded[task]) / len(encoded[task])

    ordered = sorted(encoded, key=mean_length)
    size = size or len(ordered)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def _train_group(
    experiment: Experiment,
    side: str,
    model: Model,
    chat: ChatFormat,
    encoded: dict[str, list[Encoded]],
) -> None:
    """Trains some adapters in one vmapped step and writes them in PEFT format."""
    files = experiment.files
    # The group's name tells its tasks, so a state is never restored into another group.
    name = hashlib.sha256(json.dumps(list(encoded)).encode()).hexdigest()[:12]
    directory = files.checkpoints(side, name)
    checkpoints = TrainCheckpoints(directory)
    adapters = train_adapters(
        model,
        encoded,
        experiment.train_config,
        pad_id=chat.pad_id,
        label=side,
        checkpoints=checkpoints,
        metrics=MetricWriter(files.metrics),
    )
    checkpoints.close()
    config = LoraConfig(
        rank=experiment.lora_rank,
        alpha=experiment.lora_alpha,
        targets=experiment.lora_targets,
        base_model=experiment.model_directory(side),
    )
    for task, adapter in adapters.items():
        if not files.adapter(side, task).exists():
            save_peft(files.adapter(side, task), config, adapter)
    shutil.rmtree(directory)


# --- map ----------------------------------------------------------------------------------


def fit_mappings(experiment: Experiment) -> bool:
    """Fits every method on the anchors and predicts the held-outs' target adapters."""
    files = experiment.files
    missing = [m for m in experiment.mapping_methods if not _is_mapped(experiment, m)]
    if not missing and files.selection.exists():
        return False
    source, target = _anchors(experiment)
    options = _mapping_options(experiment)
    for name in missing:
        fitted = mapping.fit(name, source, target, **options)
        selected = {}
        for task in experiment.heldouts:
            prediction = fitted.explain(_adapter(experiment, 'source', task))
            selected[task] = prediction.report
            save_predicted(
                files.predicted(name, task),
                prediction.adapter,
                experiment.model_directory('target'),
            )
        fitted.save(files.mapping(name))
        diagnostics = {**fitted.diagnostics, 'predictions': selected}
        if name == experiment.mapping_methods[0]:  # a fact of the anchors, stored once
            diagnostics['similarity'] = _similarity(source, target)
        workdir.write_json(files.mapping(name) / 'diagnostics.json', diagnostics)
        bases = {side: experiment.model_directory(side) for side in SIDES}
        workdir.write_json(files.mapping(name) / PROVENANCE, bases)
        logging.info('mapping %s: leave-one-out R2 %s', name, fitted.diagnostics.get('loo_r2'))
    workdir.write_json(files.selection, _select(experiment))
    return True


def _anchors(experiment: Experiment) -> tuple[mapping.Anchors, mapping.Anchors]:
    """Returns the anchors' adapters on both models."""
    source, target = (
        mapping.Anchors(
            {task: functools.partial(_adapter, experiment, side, task)
             for task in experiment.anchors},
            side,
        )
        for side in SIDES
    )  # fmt: skip
    return source, target


def _mapping_options(experiment: Experiment) -> JsonDict:
    """Options of every mapping of the run."""
    return {'output_rank': experiment.output_rank or None, 'seed': experiment.seed}


def _similarity(source: mapping.Anchors, target: mapping.Anchors) -> JsonDict:
    """Returns the cosines between the anchors' updates on each model."""

    def cosines(anchors: mapping.Anchors) -> list[list[float]]:
        gram = anchors.delta_gram.sum(axis=0)
        norms = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
        return np.round(gram / np.outer(norms, norms), 4).tolist()

    return {'tasks': list(source.tasks), 'source': cosines(source), 'target': cosines(target)}


def _is_mapped(experiment: Experiment, method: str) -> bool:
    """Says whether a method is fitted and has predicted every held-out."""
    return (experiment.files.mapping(method) / PROVENANCE).exists()


def _adapter(experiment: Experiment, side: str, task: str) -> Adapter:
    """Reads a trained adapter of the run."""
    directory = experiment.files.adapter(side, task)
    if not directory.exists():
        raise InputError(f'{directory}: no such adapter; run the stage train first')
    return load_peft(directory)[1]


def save_predicted(directory: pathlib.Path, adapter: Adapter, base_model: str) -> None:
    """Writes a predicted adapter; its scale is in the factors, so alpha = rank."""
    rank = max(entry['a'].shape[-1] for entry in adapter['layers'].values())
    config = LoraConfig(
        rank=rank, alpha=rank, targets=tuple(adapter['layers']), base_model=base_model
    )
    save_peft(directory, config, pad_rank(adapter, rank))


def _select(experiment: Experiment) -> JsonDict:
    """Names the method that leave-one-out on the anchors prefers; no held-out is looked at."""
    scores = {}
    for name in experiment.mapping_methods:
        diagnostics = workdir.read_json(experiment.files.mapping(name) / 'diagnostics.json')
        score = diagnostics.get('loo_r2')
        if mapping.method_named(name).is_learned and score is not None:
            scores[name] = score
    best = max(scores, key=lambda name: scores[name], default=None)
    return {'selected_method': best, 'loo_r2': scores}


# --- evaluate -----------------------------------------------------------------------------


def evaluate(experiment: Experiment) -> bool:
    """Scores base, every prediction and the oracle on every held-out; experiments 2 and 3."""
    files = experiment.files
    missing = [task for task in experiment.heldouts if not files.outcomes(task).exists()]
    plan = {
        name: rows
        for name, rows in _study_plan(experiment).items()
        if not all(files.study_outcomes(name, task).exists() for task in experiment.heldouts)
    }
    if not missing and not plan:
        return False
    model, chat = _load(experiment, 'target')
    score = functools.partial(_score, experiment, model, chat)
    for name in missing:
        adapters: dict[str, Adapter | None] = {'base': None}
        for method in experiment.mapping_methods:
            directory = files.predicted(method, name)
            if not directory.exists():
                raise InputError(f'{directory}: no such adapter; run the stage map first')
            adapters[method] = load_peft(directory)[1]
        adapters['oracle'] = _adapter(experiment, 'target', name)
        rows = score(name, adapters, experiment.eval_per_task)
        workdir.write_jsonl(files.outcomes(name), rows)
    if plan:
        source, target = _anchors(experiment)
        studied = studies.Inputs(
            source,
            target,
            queries={task: _adapter(experiment, 'source', task) for task in experiment.heldouts},
            options=_mapping_options(experiment),
            main={task: _studied_rows(experiment, task) for task in experiment.heldouts},
            group=experiment.adapters_per_step,
        )
        studies.write(
            plan,
            studied,
            lambda task, adapters: score(task, adapters, experiment.study_items),
            files.root / 'outcomes',
        )
    return True


def _score(
    experiment: Experiment,
    model: Model,
    chat: ChatFormat,
    task: str,
    adapters: Mapping[str, Adapter | None],
    items: int,
) -> evaluation.Outcomes:
    """Outcomes of adapters on the first items of a held-out."""
    return evaluation.evaluate(
        model,
        chat,
        registry.get(task),
        read_examples(experiment.files.eval_data(task))[:items],
        adapters,
        batch_size=experiment.eval_batch_size,
        max_len=experiment.max_len,
        max_new_tokens=experiment.max_new_tokens,
        adapters_per_step=experiment.adapters_per_step,
        allow_code_execution=experiment.allow_code_execution,
    )


def _study_plan(experiment: Experiment) -> studies.Plan:
    """What experiments 2 and 3 consist of, those that are asked for."""
    plan: studies.Plan = {}
    if '2' in experiment.experiments:
        plan['experiment2'] = studies.anchor_scaling(
            experiment.anchors,
            experiment.anchor_counts,
            experiment.top_k_grid,
            experiment.anchor_draws,
            experiment.scaling_methods,
            experiment.seed,
        )
    if '3' in experiment.experiments:
        domains = {task: registry.get(task).domain for task in experiment.anchors}
        plan['experiment3'] = studies.domain_transfer(
            experiment.anchors, domains, experiment.transfer_methods
        )
    return plan


def _studied_rows(experiment: Experiment, task: str) -> dict[str, evaluation.Outcomes]:
    """The main table's outcomes on the items of experiments 2 and 3, by method."""
    examples = read_examples(experiment.files.eval_data(task))[: experiment.study_items]
    items = {example.item for example in examples}
    rows: dict[str, evaluation.Outcomes] = {}
    for row in workdir.read_jsonl(experiment.files.outcomes(task)):
        if row['item'] in items:
            rows.setdefault(row['method'], []).append(row)
    return rows


# --- report -------------------------------------------------------------------------------


def write_report(experiment: Experiment) -> bool:
    """Writes results.json and the report, unless they are newer than all outcomes."""
    files = experiment.files
    for task in experiment.heldouts:
        if not files.outcomes(task).exists():
            raise InputError(f'{files.outcomes(task)}: no such file; run the stage evaluate first')
    newest = max(path.stat().st_mtime_ns for path in (files.root / 'outcomes').rglob('*.jsonl'))
    finished = files.report / 'ROUND4_REPORT.md'
    if finished.exists() and min(
        finished.stat().st_mtime_ns, files.results.stat().st_mtime_ns
    ) > newest:  # fmt: skip
        return False
    rebuild_report(files)
    return True


def rebuild_report(files: workdir.Workdir) -> None:
    """Computes results.json and the report from the stored outcomes alone."""
    workdir.write_json(files.results, results.build(files))
    report.write(files)
