"""Shared text takes every anchor's rows in turn."""

import collections

from lorajax.experiment import anchor_rows
from lorajax.experiment.config import Experiment
from lorajax.tasks import examples
from lorajax.tasks.task import Example


def write(experiment, task, count):
    rows = [Example(f'{task}/{i}', f'{task} {i}', 'a', 'a') for i in range(count)]
    examples.write(experiment.files.train_data(task), rows)


def test_rows_of_every_anchor_alternate_and_none_is_lost(tmp_path):
    experiment = Experiment(workdir=str(tmp_path), anchors=('x', 'y', 'z'), seed=4)
    for task, count in (('x', 5), ('y', 5), ('z', 2)):
        write(experiment, task, count)
    rows = anchor_rows.interleaved(experiment)
    tasks = [row.item.split('/')[0] for row in rows]
    assert tasks == ['x', 'y', 'z', 'x', 'y', 'z', 'x', 'y', 'x', 'y', 'x', 'y']
    assert collections.Counter(row.item for row in rows).most_common(1)[0][1] == 1
    assert rows == anchor_rows.interleaved(experiment)
    numbers = {t: [row.item.split('/')[1] for row in rows if row.item[0] == t] for t in 'xy'}
    assert numbers['x'] != numbers['y'] and sorted(numbers['x']) == sorted(numbers['y'])
