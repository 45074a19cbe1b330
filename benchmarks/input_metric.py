"""Updates measured by what a model feeds them: `python -m benchmarks.input_metric --workdir=DIR`.

In worlds of `benchmarks.ladder_worlds` the default map stands beside the same map of adapters whose
inner products weigh each direction by what the source model sends along it, on left-out anchors and
held-outs.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags

from benchmarks import ladder_worlds, toy_scores
from lorajax import mapping
from lorajax.experiment import anchor_rows, models
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.experiment.config import Experiment
from lorajax.models import activations
from lorajax.tasks import examples
from lorajax.types import Adapter, JsonDict

# Chosen on left-out anchors of the worlds demo, f and g. Eigenvalues of the inputs' second moment
# to this power: 0 is the plain inner product, 0.5 that of the changes of outputs.
_POWER = 0.25
_FLOOR = 1e-4  # of the mean eigenvalue
_ROWS, _ITEMS = 32, 100


def roots(experiment: Experiment, rows: int = 3 * _ROWS) -> dict[str, np.ndarray]:
    """Returns float32[L, in, in], S^_POWER of what each projection of the source model sees."""
    model, chat = models.load_side(experiment, 'source')
    encoded = examples.encode(
        chat, anchor_rows.interleaved(experiment)[:rows], experiment.max_len, 'anchors'
    )
    texts = [np.concatenate([row.prompt, row.answer]) for row in encoded]
    inputs = activations.collect(model, texts, [np.arange(len(t)) for t in texts]).inputs
    found = {}
    for name, states in inputs.items():
        layers = []
        for seen in states.astype(np.float64):
            values, vectors = np.linalg.eigh(seen.T @ seen)
            values = np.maximum(values, 0.0) + _FLOOR * values.mean()
            layers.append((vectors * (values / values.mean()) ** _POWER) @ vectors.T)
        found[name] = np.stack(layers).astype(np.float32)
    return found


def measured(adapter: Adapter, by: Mapping[str, np.ndarray]) -> Adapter:
    """Returns an adapter whose plain inner products are those of `adapter` in a metric."""
    return {
        'layers': {
            name: {'a': by[name] @ np.asarray(entry['a']), 'b': entry['b']}
            for name, entry in adapter['layers'].items()
        }
    }


def compared(experiment: Experiment) -> JsonDict:
    """Returns shares of the gap with and without the metric, of left-out anchors and held-outs."""
    trained = {
        side: {t: load_trained(experiment, side, t) for t in experiment.tasks} for side in SIDES
    }
    by = roots(experiment)
    sources = {
        'plain': trained['source'],
        'metric': {task: measured(a, by) for task, a in trained['source'].items()},
    }
    made: dict[str, dict[str, Adapter]] = {task: {} for task in experiment.tasks}
    for way, adapters in sources.items():
        fitted = mapping.fit(
            ladder_worlds.METHOD, {t: adapters[t] for t in experiment.anchors},
            {t: trained['target'][t] for t in experiment.anchors},
        )  # fmt: skip
        predicted = fitted.explain_many({t: adapters[t] for t in experiment.heldouts})
        for task, adapter in fitted.left_out().items():
            made[task][way] = adapter
        for task, one in predicted.items():
            made[task][way] = one.adapter
    model, chat = models.load_side(experiment, 'target')
    result: JsonDict = {}
    for role, tasks in (('left out', experiment.anchors), ('held out', experiment.heldouts)):
        scored = {}
        for task in tasks:
            file = experiment.files
            path = file.train_data(task) if role == 'left out' else file.eval_data(task)
            rows = examples.read(path)[: _ROWS if role == 'left out' else _ITEMS]
            encoded = examples.encode(chat, rows, experiment.max_len, task)
            adapters = {**made[task], 'oracle': trained['target'][task]}
            scored[task] = {'methods': toy_scores.forced(model, chat, encoded, adapters)}
        result[role] = {
            way: [toy_scores.share(scored, way, column) for column in (0, 1)] for way in sources
        }
    return result


def main(argv: Sequence[str]) -> None:
    """Prints a row for every world."""
    del argv
    print('| world | left out, plain: accuracy, NLL | metric | held out, plain | metric |')
    print('| --- | ---: | ---: | ---: | ---: |')
    for name in flags.FLAGS.worlds:
        found = compared(ladder_worlds.make(pathlib.Path(flags.FLAGS.workdir), name))
        cells = [
            '{:.3f}, {:.3f}'.format(*found[role][way]) for role in found for way in found[role]
        ]
        print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where worlds are kept', required=True)
    flags.DEFINE_list('worlds', list(ladder_worlds.WORLDS), 'which worlds')
    app.run(main)
