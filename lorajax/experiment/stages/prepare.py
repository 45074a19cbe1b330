"""First stage: everything that can be checked early, the data, config.json."""

import hashlib
import shutil
from collections.abc import Sequence

import jax
from absl import logging

from lorajax import io, sharding, toy
from lorajax.experiment import provenance, tasks
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.common import SIDES
from lorajax.models import config as config_lib
from lorajax.models.hf import checkpoint
from lorajax.models.model import param_shardings
from lorajax.sandbox import runner
from lorajax.tasks import data, overlap
from lorajax.tasks.chat import load_chat_format
from lorajax.types import JsonDict


def prepare(experiment: Experiment) -> bool:
    """Checks everything that can be checked early, draws the data, writes config.json.

    Raises:
      InputError: if the run was begun with other flags, a model or data set is not usable, or
        training and evaluation sets overlap.
    """
    files = experiment.files
    if files.config.exists():
        stored = io.read_json(files.config)
        experiment.check_same(stored)
        return False
    check_execution(experiment.heldouts, experiment.allow_code_execution)
    for side in SIDES:
        _check_model(experiment, side)
    source = data.DataSource(experiment.data_dir or None)
    anchors, heldouts = tasks.get_all(experiment.anchors), tasks.get_all(experiment.heldouts)
    drawn = data.draw(
        anchors,
        heldouts,
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
            anchors,
            heldouts,
            source,
            experiment.eval_per_task,
            experiment.seed,
            experiment.protocol,
        )
    )['cells']
    for side, name in zip(SIDES, (experiment.source_model, experiment.target_model), strict=True):
        if name in toy.MODELS:
            with io.atomic_directory(files.model(side)) as directory:
                shutil.copytree(toy.MODELS[name], directory, dirs_exist_ok=True)
    io.write_json(files.overlap, counts)
    for name, examples in drawn.items():
        io.write_jsonl(files.train_data(name), [e.to_json() for e in examples.train])
        if examples.eval:
            io.write_jsonl(files.eval_data(name), [e.to_json() for e in examples.eval])
    io.write_json(files.config, _provenance(experiment))
    return True


def check_execution(names: Sequence[str], allow_code_execution: bool) -> None:
    """Says before any work whether programs that a model writes will run.

    Raises:
      InputError: if they shall and this machine cannot confine them.
    """
    code = [name for name in names if tasks.get(name).scorer == 'code']
    if code and allow_code_execution:
        runner.protections()
    elif code:
        logging.warning(
            '%s: answers are judged by the span proxy; --allow_code_execution runs them against '
            'their unit tests, in a sandbox',
            ', '.join(code),
        )


def _check_model(experiment: Experiment, side: str) -> None:
    """Reads a model's config, tokenizer and tensor headers, and fits it to the mesh."""
    name = experiment.source_model if side == 'source' else experiment.target_model
    directory = checkpoint.resolve(str(toy.MODELS.get(name, name)))
    config = config_lib.read(directory)
    checkpoint.check_tensors(directory, config)
    load_chat_format(directory)
    param_shardings(sharding.make_mesh(experiment.mesh), config)


def _provenance(experiment: Experiment) -> JsonDict:
    """Returns the content of config.json."""
    models = {side: checkpoint.resolve(experiment.model_directory(side)) for side in SIDES}
    drawn = hashlib.sha256()
    for path in sorted((experiment.files.root / 'data').rglob('*.jsonl')):
        drawn.update(path.name.encode() + path.read_bytes())
    return {
        'schema': 1,
        **experiment.to_json(),
        'domains': {name: tasks.get(name).domain for name in experiment.tasks},
        'versions': provenance.versions(),
        'git_commit': provenance.git_commit(),
        'model_hashes': {
            side: provenance.hash_files(path, '*.safetensors') for side, path in models.items()
        },
        'data_hash': drawn.hexdigest(),
        'device': jax.devices()[0].device_kind,
    }
