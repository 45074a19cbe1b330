"""Third stage: fits every mapping on the anchors and predicts the held-outs' target adapters."""

import resource
import shutil
import time
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from lorajax import io, mapping
from lorajax.distillation import activations, teacher
from lorajax.errors import InputError
from lorajax.evaluation.stats import TRAINED_METHODS
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.common import (
    PROVENANCE,
    REPEATED,
    SIDES,
    anchors,
    encode,
    group_name,
    load,
    read_examples,
    save_predicted,
    trained_adapter,
)
from lorajax.lora import load_peft
from lorajax.mapping.subspace import update_cosine
from lorajax.models import Model
from lorajax.rng import generator
from lorajax.tasks.task import Example
from lorajax.training.checkpoint import TrainCheckpoints
from lorajax.training.loop import train_adapters
from lorajax.training.metrics import MetricWriter
from lorajax.types import JsonDict

# References of every run: what is reached without the source adapter's help, and the weighted sum
# of anchors that is nearest to the truth.
DIAGNOSTICS = ('placebo', 'span_oracle_tensor')
FRESH = 'fresh'  # value of --distill_from


def check_methods(experiment: Experiment) -> None:
    """Refuses unknown names of methods before anything is done.

    Raises:
      InputError: naming the method.
    """
    given = (
        *experiment.mapping_methods, *experiment.scaling_methods, *experiment.transfer_methods
    )  # fmt: skip
    for name in given:
        if name not in TRAINED_METHODS:
            mapping.method_named(name)
    for flag in ('scaling_methods', 'transfer_methods'):
        for name in getattr(experiment, flag):
            if name in TRAINED_METHODS or mapping.method_named(name).needs:
                raise InputError(
                    f'--{flag}={name}: expected methods that need nothing but adapters'
                )
    if experiment.distill_from != FRESH and mapping.method_named(experiment.distill_from).needs:
        raise InputError(
            f'--distill_from={experiment.distill_from}: expected {FRESH!r} or a method that needs '
            'nothing but adapters'
        )


def fitted_methods(experiment: Experiment) -> list[str]:
    """Returns the mappings that a run fits: those asked for, and the diagnostics."""
    names = [name for name in experiment.mapping_methods if name not in TRAINED_METHODS]
    if experiment.diagnostics:
        names += [name for name in DIAGNOSTICS if name not in names]
    return names


def translate(experiment: Experiment) -> bool:
    """Fits what is not fitted yet, predicts, distils, and names the method fixed beforehand."""
    files = experiment.files
    missing = [m for m in fitted_methods(experiment) if not _is_mapped(experiment, m)]
    untaught = [
        task
        for name in TRAINED_METHODS
        if name in experiment.mapping_methods
        for task in experiment.heldouts
        if not files.predicted(name, task).exists()
    ]
    if not missing and not untaught and files.selection.exists():
        return False
    source, target = anchors(experiment)
    if missing:
        _fit_all(experiment, missing, source, target)
    if untaught:
        _distil(experiment, untaught, source, target)
    if experiment.diagnostics:
        io.write_json(files.cosines, _cosines(experiment))
    io.write_json(files.selection, _select(experiment))
    return True


def mapping_options(experiment: Experiment) -> JsonDict:
    """Options of every mapping of the run."""
    return {'output_rank': experiment.output_rank or None, 'seed': experiment.seed}


def _is_mapped(experiment: Experiment, method: str) -> bool:
    """Says whether a method is fitted and has predicted every held-out."""
    return (experiment.files.mapping(method) / PROVENANCE).exists()


def _fit_all(
    experiment: Experiment,
    methods: Sequence[str],
    source: mapping.Anchors,
    target: mapping.Anchors,
) -> None:
    """Fits methods, predicts all held-outs, writes both."""
    files = experiment.files
    bases = {side: experiment.model_directory(side) for side in SIDES}
    needs = {need for name in methods for need in mapping.method_named(name).needs}
    arrays = base_arrays(experiment, needs) if needs else {}
    for name in methods:
        method = mapping.method_named(name)
        queries = {
            task: trained_adapter(experiment, method.query_side, task)
            for task in experiment.heldouts
        }
        start = time.monotonic()
        fitted = mapping.fit(
            name, source, target, **mapping_options(experiment),
            **{need: arrays[need] for need in method.needs},
        )  # fmt: skip
        middle = time.monotonic()
        predictions = fitted.explain_many(queries)
        end = time.monotonic()
        for task, prediction in predictions.items():
            save_predicted(files.predicted(name, task), prediction.adapter, bases['target'])
        fitted.save(files.mapping(name))
        diagnostics = {
            **fitted.diagnostics,
            'fit_seconds': round(middle - start, 3),
            'predict_seconds': round(end - middle, 3),
            'peak_memory_bytes': 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            'predictions': {task: p.report for task, p in predictions.items()},
        }
        if name == fitted_methods(experiment)[0]:  # a fact of the anchors, stored once
            diagnostics['similarity'] = _similarity(source, target)
        io.write_json(files.mapping(name) / 'diagnostics.json', diagnostics)
        io.write_json(files.mapping(name) / PROVENANCE, bases)
        logging.info('mapping %s: leave-one-out R2 %s', name, fitted.diagnostics.get('loo_r2'))


def base_arrays(experiment: Experiment, needs: set[str]) -> dict[str, Mapping[str, np.ndarray]]:
    """Returns arrays of the base models that some methods need; see `mapping.options.Extras`.

    Activations are taken on the anchors' training rows, as plain text: no held-out is read.
    """
    models, chats = {}, []
    for side in SIDES:
        models[side], chat = load(experiment, side)
        chats.append(chat)
    found: dict[str, Mapping[str, np.ndarray]] = {}
    if any(need.endswith('_weights') for need in needs):
        for side, model in models.items():
            found[f'{side}_weights'] = kernels(model)
    if any(need.endswith(('_inputs', '_outputs')) for need in needs):
        rows = _interleaved(experiment)
        texts = [f'{row.prompt}\n{row.answer}' for row in rows]
        tokens, places = activations.shared_places(
            chats, texts, experiment.max_len, experiment.activation_places
        )
        for i, (side, model) in enumerate(models.items()):
            states = activations.collect(model, tokens[i], places[i])
            found[f'{side}_inputs'], found[f'{side}_outputs'] = states
    return found


def kernels(model: Model) -> dict[str, np.ndarray]:
    """Returns a model's projections, [L, in, out] by name, on the host."""
    layers = model.params['layers']
    return {p: np.asarray(layers[p]['kernel']) for p in model.config.projections}


def _interleaved(experiment: Experiment) -> list[Example]:
    """The anchors' training rows: the first of each, the second of each, and so on.

    Rows of a task come in an order of their own, so that tasks with common prompts do not all
    begin with the same ones.
    """
    shuffled = []
    for task in experiment.anchors:
        rows = read_examples(experiment.files.train_data(task))
        order = generator(experiment.seed, 'shared rows', task).permutation(len(rows))
        shuffled.append([rows[i] for i in order])
    longest = max(map(len, shuffled))
    return [rows[i] for i in range(longest) for rows in shuffled if i < len(rows)]


def _distil(
    experiment: Experiment,
    tasks: Sequence[str],
    source: mapping.Anchors,
    target: mapping.Anchors,
) -> None:
    """Trains the held-outs' target adapters on what the source model answers with theirs.

    Prompts are those of the anchors. Twice as many as a training has rows are answered, and the
    half is kept of which the source model is surest. The recipe is the anchors'.
    """
    files = experiment.files
    queries = {task: trained_adapter(experiment, 'source', task) for task in tasks}
    start = None
    if experiment.distill_from != FRESH:
        options = {**mapping_options(experiment), 'output_rank': experiment.lora_rank}
        fitted = mapping.fit(experiment.distill_from, source, target, **options)
        start = {task: p.adapter for task, p in fitted.explain_many(queries).items()}
    unanswered = [task for task in tasks if not files.answered(task).exists()]
    if unanswered:
        rows = _interleaved(experiment)[: 2 * experiment.train_per_task]
        model, chat = load(experiment, 'source')
        prompts = [row.prompt for row in rows]
        answers = teacher.answer(
            model,
            chat,
            {task: queries[task] for task in unanswered},
            prompts,
            batch_size=experiment.eval_batch_size,
            max_len=experiment.max_len,
            max_new_tokens=experiment.max_new_tokens or teacher.longest_answer(chat, rows),
        )
        for task, given in answers.items():
            lessons = teacher.lessons(prompts, given, -(-len(prompts) // 2), task)
            io.write_jsonl(files.answered(task), [e.to_json() for e in lessons])
    model, chat = load(experiment, 'target')
    encoded = {
        task: encode(chat, read_examples(files.answered(task)), experiment.max_len, task)
        for task in tasks
    }
    size = experiment.adapters_per_step or len(tasks)
    for i in range(0, len(tasks), size):
        group = tasks[i : i + size]
        directory = files.checkpoints('distilled', group_name(group))
        checkpoints = TrainCheckpoints(directory)
        trained = train_adapters(
            model,
            {task: encoded[task] for task in group},
            experiment.train_config,
            pad_id=chat.pad_id,
            label='distilled',
            start_from=start,
            checkpoints=checkpoints,
            metrics=MetricWriter(files.metrics),
        )
        checkpoints.close()
        for task, adapter in trained.items():
            base = experiment.model_directory('target')
            save_predicted(files.predicted('distilled', task), adapter, base)
        shutil.rmtree(directory)


def _similarity(source: mapping.Anchors, target: mapping.Anchors) -> JsonDict:
    """Returns the cosines between the anchors' updates on each model."""

    def cosines(side: mapping.Anchors) -> list[list[float]]:
        gram = side.delta_gram.sum(axis=0)
        norms = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
        return np.round(gram / np.outer(norms, norms), 4).tolist()

    return {'tasks': list(source.tasks), 'source': cosines(source), 'target': cosines(target)}


def _cosines(experiment: Experiment) -> dict[str, dict[str, float]]:
    """Cosine of each held-out's trained update with every prediction and its repeated training."""
    found: dict[str, dict[str, float]] = {}
    for task in experiment.heldouts:
        truth = trained_adapter(experiment, 'target', task)
        found[task] = {}
        for name in (*fitted_methods(experiment), *_trained_methods(experiment)):
            prediction = load_peft(experiment.files.predicted(name, task))[1]
            found[task][name] = round(update_cosine(truth, prediction), 6)
        repeated = trained_adapter(experiment, REPEATED, task)
        found[task][REPEATED] = round(update_cosine(truth, repeated), 6)
    return found


def _trained_methods(experiment: Experiment) -> list[str]:
    """The methods of a run that train on the target."""
    return [name for name in experiment.mapping_methods if name in TRAINED_METHODS]


def predicted_methods(experiment: Experiment) -> list[str]:
    """Every method of a run that leaves a target adapter of each held-out."""
    return [*fitted_methods(experiment), *_trained_methods(experiment)]


def _select(experiment: Experiment) -> JsonDict:
    """Names the method that leave-one-out on the anchors prefers; no held-out is looked at."""
    scores = {}
    for name in fitted_methods(experiment):
        diagnostics = io.read_json(experiment.files.mapping(name) / 'diagnostics.json')
        score = diagnostics.get('loo_r2')
        if mapping.method_named(name).is_learned and score is not None:
            scores[name] = score
    best = max(scores, key=lambda name: scores[name], default=None)
    return {'selected_method': best, 'loo_r2': scores}
