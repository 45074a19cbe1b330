"""What a few examples of the target add: `python -m benchmarks.mapping_refine --workdir=DIR`.

After `benchmarks.mapping_lab` on the same DIR. This uses data of the held-out task on the target
model, so it is no translation without data and stands apart from the contest. Every held-out is
trained for a few steps on a few examples, once from the translated adapter and once from a
fresh one; both see the same examples in the same order at the same rate.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags

from benchmarks import toy_scores
from benchmarks.mapping_lab import WORLDS
from lorajax import mapping
from lorajax.distillation import reweight
from lorajax.distillation.reweight import ReweightConfig
from lorajax.experiment import models
from lorajax.experiment.adapters import SIDES
from lorajax.lora import load_peft
from lorajax.tasks import examples
from lorajax.training import train_adapters
from lorajax.types import Adapter


def refine(root: pathlib.Path, name: str, method: str) -> None:
    """Prints the table rows of one world: mean exact match over its held-outs."""
    spec = next(spec for spec in WORLDS if spec.name == name)
    experiment = spec.experiment(root)
    files = experiment.files
    model, chat = models.load_side(experiment, 'target')
    sides = [
        {task: load_peft(files.adapter(side, task))[1] for task in experiment.anchors}
        for side in SIDES
    ]
    config = experiment.train_config
    fitted = mapping.fit(method, *sides, output_rank=config.rank)
    start = {
        task: fitted.predict(load_peft(files.adapter('source', task))[1])
        for task in experiment.heldouts
    }

    def accuracy(adapters: Mapping[str, Adapter | None]) -> float:
        right = [
            toy_scores.of_task((model, chat), experiment, task, {'it': adapter})['it'][0]
            for task, adapter in adapters.items()
        ]
        return float(np.mean(right))

    scores = {'translated': accuracy(start)}
    for count in (8, 32):
        few = {
            task: examples.encode(
                chat, examples.read(files.train_data(task))[:count], experiment.max_len, task
            )
            for task in experiment.heldouts
        }
        from_nothing = ReweightConfig(penalty=0.0)
        reweighted = reweight(model, sides[1], few, pad_id=chat.pad_id, config=from_nothing)
        scores[f'anchors reweighted, {count} examples'] = accuracy(reweighted)
        for steps in (10, 30):
            short = dataclasses.replace(
                config, batch_size=8, num_epochs=steps * 8 / count, warmup_ratio=0.0
            )
            for label, start_from in (('translated', start), ('fresh', None)):
                trained = train_adapters(
                    model, few, short, pad_id=chat.pad_id, label=label, start_from=start_from
                )
                scores[f'{label}, {count} examples, {steps} steps'] = accuracy(trained)
    for label, value in scores.items():
        print(f'| {name} | {label} | {value:.3f} |', flush=True)


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    print('| world | start | exact match |\n| --- | --- | ---: |')
    for name in flags.FLAGS.worlds:
        refine(pathlib.Path(flags.FLAGS.workdir), name, flags.FLAGS.method)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'of benchmarks.mapping_lab', required=True)
    flags.DEFINE_list('worlds', ['a', 'c', 'e'], 'which worlds')
    flags.DEFINE_string('method', 'matched_ridge', 'the translation to start from')
    app.run(main)
