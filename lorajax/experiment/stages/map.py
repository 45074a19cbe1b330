"""Third stage: fits every mapping on the anchors and predicts the held-outs' target adapters."""

import functools
import resource
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from lorajax import io, mapping, processes
from lorajax.distillation import distill, ladder
from lorajax.evaluation import functional
from lorajax.evaluation.inference import decode_length
from lorajax.evaluation.roles import DISTILLED, REWEIGHTED
from lorajax.experiment import adapters, anchor_rows, base_arrays, methods, models, newcomers
from lorajax.experiment.adapters import REPEATED, SIDES
from lorajax.experiment.config import FRESH, Experiment
from lorajax.experiment.stages.train import check_trained
from lorajax.mapping.quality import FUNCTIONAL
from lorajax.mapping.subspace import update_cosine
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.training import MetricWriter
from lorajax.types import JsonDict

_ROWS = 32  # of each anchor, on which its left-out prediction is run


def fit_and_predict(experiment: Experiment) -> bool:
    """Fits what is not fitted yet, predicts, distils, and names the method fixed beforehand."""
    files = experiment.files

    def undone() -> list[Any]:
        untaught = {
            name: [task for task in experiment.heldouts if not files.predicted(name, task).exists()]
            for name in methods.trained(experiment)
        }
        return [
            [name for name in methods.fitted(experiment) if not files.bases(name).exists()],
            {name: tasks for name, tasks in untaught.items() if tasks},
            newcomers.lacking(experiment),
            files.selection.exists(),
        ]

    missing, untaught, unpredicted, is_selected = processes.on_first(undone)
    if not missing and not untaught and not unpredicted and is_selected:
        return False
    processes.on_first(lambda: check_trained(experiment))

    def predict() -> None:
        for name, tasks in unpredicted.items():
            newcomers.predict(experiment, name, tasks)

    processes.on_first(predict)
    source, target = adapters.load_anchors(experiment)
    needs = {need for name in missing for need in mapping.method_named(name).needs}
    arrays = base_arrays.collect(experiment, needs)
    queries = {
        side: _queries(experiment, side)
        for side in {mapping.method_named(name).query_side for name in missing}
    }
    left_out = _LeftOut(experiment, target)
    for name in missing:
        _fit(experiment, name, source, target, arrays, queries, left_out)
    if DISTILLED in untaught:
        _distill(experiment, source, target)
    if REWEIGHTED in untaught:
        _reweight(experiment, source, target, untaught[REWEIGHTED])

    def close() -> None:
        if experiment.diagnostics:
            io.write_json(files.cosines, _cosines(experiment))
        io.write_json(files.selection, _select(experiment))

    processes.on_first(close)
    return True


def _queries(experiment: Experiment, side: str) -> mapping.Queries:
    """Returns the held-outs' adapters of a side, compared with the anchors once for all methods."""
    return mapping.Queries(
        {task: adapters.load_trained(experiment, side, task) for task in experiment.heldouts}
    )


def _fit(
    experiment: Experiment,
    name: str,
    source: mapping.Anchors,
    target: mapping.Anchors,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    queries: Mapping[str, mapping.Queries],
    left_out: '_LeftOut',
) -> None:
    """Fits a method, predicts all held-outs, writes both; the mapping last, as a whole."""
    files = experiment.files
    bases = {side: experiment.model_directory(side) for side in SIDES}
    method = mapping.method_named(name)
    start = time.monotonic()
    fitted = mapping.fit(
        name, source, target, **methods.options(experiment),
        **{need: arrays[need] for need in method.needs},
    )  # fmt: skip
    middle = time.monotonic()
    if method.is_learned and fitted.can_leave_out:
        fitted.state.info[FUNCTIONAL] = left_out.losses(fitted)
    scored = time.monotonic()
    predictions = fitted.explain_many(queries[method.query_side])
    end = time.monotonic()
    diagnostics = {
        **fitted.diagnostics,
        'fit_seconds': round(middle - start, 3),
        'functional_seconds': round(scored - middle, 3),
        'predict_seconds': round(end - scored, 3),
        'peak_memory_bytes': 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        'predictions': {task: p.report for task, p in predictions.items()},
    }
    if name == methods.fitted(experiment)[0]:  # a fact of the anchors, stored once
        diagnostics['similarity'] = _similarity(source, target)

    def store() -> None:
        for task, prediction in predictions.items():
            adapters.save_predicted(
                files.predicted(name, task), prediction.adapter, bases['target']
            )
        with io.atomic_directory(files.mapping(name)) as partial:
            fitted.save(partial)
            io.write_json(partial / files.diagnostics(name).name, diagnostics)
            io.write_sum(partial / files.diagnostics(name).name)
            io.write_json(partial / files.bases(name).name, bases | _fingerprints(experiment))
            io.write_sums(partial)

    processes.on_first(store)
    score = fitted.diagnostics.get('loo_r2')
    shown = 'none' if score is None else f'{score:.3f}'
    logging.info('mapping %s: leave-one-out R2 %s', name, shown)


class _LeftOut:
    """Losses of left-out anchors on rows of their own; the target is loaded at the first."""

    def __init__(self, experiment: Experiment, target: mapping.Anchors):
        self._experiment = experiment
        self._anchors = target
        self._known: functional.Losses | None = None

    @functools.cached_property
    def _loaded(self) -> tuple[Model, ChatFormat, dict[str, list[Encoded]]]:
        experiment = self._experiment
        model, chat = models.load_side(experiment, 'target')
        rows = {
            task: examples.encode(
                chat, examples.read(experiment.files.train_data(task))[:_ROWS],
                experiment.max_len, task,
            )
            for task in self._anchors.tasks
        }  # fmt: skip
        return model, chat, rows

    def losses(self, fitted: mapping.TransferMap) -> functional.Losses:
        """Returns `functional.leave_one_out` of a mapping."""
        model, chat, rows = self._loaded
        batch_size = min(self._experiment.eval_batch_size, _ROWS)
        self._known = functional.leave_one_out(
            model, chat.pad_id, fitted, self._anchors.trees, rows, batch_size, self._known
        )
        return self._known


def _fingerprints(experiment: Experiment) -> dict[str, str]:
    """Returns the fingerprints of both models' weights, by which `translate` knows them again."""
    hashes = io.read_json(experiment.files.config).get('model_hashes', {})
    return {f'{side}_weights': hashes[side] for side in SIDES if side in hashes}


def _distill(experiment: Experiment, source: mapping.Anchors, target: mapping.Anchors) -> None:
    """Trains the held-outs' target adapters on what the source model answers with theirs.

    Prompts are those of the anchors. Unless it is said how many, twice as many as a training has
    rows are answered; the half is kept of which the source model is surest. The recipe is the
    anchors'. All are trained even if some are there already, so that a run that was killed while it
    wrote them ends with the same bytes; their saved state makes that quick.
    """
    files, tasks = experiment.files, experiment.heldouts
    queries = {task: adapters.load_trained(experiment, 'source', task) for task in tasks}
    start = None
    if experiment.distill_from != FRESH:
        options = {**methods.options(experiment), 'output_rank': experiment.lora_rank}
        fitted = mapping.fit(experiment.distill_from, source, target, **options)
        start = {task: p.adapter for task, p in fitted.explain_many(queries).items()}
        start = processes.from_first(start)
    count = experiment.distill_prompts or 2 * experiment.train_per_task
    rows = anchor_rows.interleaved(experiment)[:count]
    source_chat = models.load_chat(experiment.model_directory('source'), experiment)
    trained = distill(
        lambda: models.load_side(experiment, 'source'),
        lambda: models.load_side(experiment, 'target'),
        queries,
        [row.asked for row in rows],
        experiment.train_config,
        start_from=start,
        answer_batch_size=experiment.eval_batch_size,
        max_len=experiment.max_len,
        max_new_tokens=experiment.max_new_tokens or decode_length(source_chat, rows),
        adapters_per_step=experiment.adapters_per_step,
        label_files={task: files.answered(task) for task in tasks},
        state=files.pool_checkpoints('distilled'),
        metrics=MetricWriter(files.metrics, experiment.report_to, files.root)
        if processes.is_first()
        else None,
    )
    base = experiment.model_directory('target')

    def store() -> None:
        for task, adapter in trained.items():
            if not files.predicted('distilled', task).exists():
                adapters.save_predicted(files.predicted('distilled', task), adapter, base)
        shutil.rmtree(files.pool_checkpoints('distilled'))

    processes.on_first(store)


def _reweight(
    experiment: Experiment, source: mapping.Anchors, target: mapping.Anchors, tasks: Sequence[str]
) -> None:
    """Puts anchors together anew to fit what the source model answers with the held-outs' adapters.

    Prompts are some of the held-out's own, without their answers. Each held-out is done by
    itself, so one that is done already changes nothing for the others.
    """
    files = experiment.files
    options = {**methods.options(experiment), 'output_rank': experiment.lora_rank}
    fitted = mapping.fit(experiment.distill_from, source, target, **options)
    load_source, load_target = (
        functools.cache(functools.partial(models.load_side, experiment, side)) for side in SIDES
    )
    source_chat = models.load_chat(experiment.model_directory('source'), experiment)
    known = anchor_rows.interleaved(experiment)[: 2 * experiment.train_per_task]
    limits = ladder.Limits(
        experiment.eval_batch_size,
        experiment.max_len,
        experiment.max_new_tokens or decode_length(source_chat, known),
    )
    for task in tasks:
        query = adapters.load_trained(experiment, 'source', task)
        rows = examples.read(files.train_data(task))[: experiment.reweight_prompts]
        reached = ladder.climb(
            load_source,
            load_target,
            ladder.Anchors(source.trees, target.trees),
            {task: query},
            {task: fitted.predict(query)},
            [row.asked for row in rows],
            limits,
        )[task]
        logging.info('%s: rung %s %s', task, reached.rung, ' '.join(reached.notes))
        base = experiment.model_directory('target')
        path = files.predicted(REWEIGHTED, task)
        processes.on_first(functools.partial(adapters.save_predicted, path, reached.adapter, base))


def _similarity(source: mapping.Anchors, target: mapping.Anchors) -> JsonDict:
    """Returns the cosines between the anchors' updates on each model."""

    def cosines(side: mapping.Anchors) -> list[list[float]]:
        gram = side.delta_gram.sum(axis=0)
        norms = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
        return np.round(gram / np.outer(norms, norms), 4).tolist()

    return {'tasks': list(source.tasks), 'source': cosines(source), 'target': cosines(target)}


def _cosines(experiment: Experiment) -> dict[str, dict[str, float]]:
    """Cosine of each held-out's trained update with every prediction and its repeated training."""
    by_task: dict[str, dict[str, float]] = {}
    for task in experiment.heldouts:
        truth = adapters.load_trained(experiment, 'target', task)
        others = {
            name: adapters.load_predicted(experiment, name, task)
            for name in methods.predicted(experiment)
        }
        others[REPEATED] = adapters.load_trained(experiment, REPEATED, task)
        by_task[task] = {
            name: round(update_cosine(truth, adapter), 6) for name, adapter in others.items()
        }
    return by_task


def _select(experiment: Experiment) -> JsonDict:
    """Names the method by which left-out anchors do their tasks best; no held-out is looked at.

    That is the lowest mean loss on rows of their own. Where no mapping weighs anchors, it is the
    highest leave-one-out R2.
    """
    scores, losses = {}, {}
    for name in methods.fitted(experiment):
        if not mapping.method_named(name).is_learned:
            continue
        diagnostics = read_diagnostics(experiment, name)
        if diagnostics.get('loo_r2') is not None:
            scores[name] = diagnostics['loo_r2']
        if diagnostics.get(FUNCTIONAL):
            losses[name] = diagnostics[FUNCTIONAL]
    best = functional.best(losses) or max(scores, key=lambda name: scores[name], default=None)
    return {
        'selected_method': best,
        'loo_r2': scores,
        'left_out_loss': {name: functional.left_out_mean(of) for name, of in losses.items()},
    }


def read_diagnostics(experiment: Experiment, method: str) -> JsonDict:
    """Returns what a mapping of the run says about itself."""
    path = experiment.files.diagnostics(method)
    io.check_sum(path)
    return io.read_json(path)
