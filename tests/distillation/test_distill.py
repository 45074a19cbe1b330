"""Target adapters from a teacher's answers, and what a kill leaves to be done."""

import jax
import numpy as np
import pytest

from lorajax.distillation import distill as distill_function
from lorajax.evaluation.inference import answer_nll
from lorajax.experiment import tasks
from lorajax.tasks import examples
from lorajax.training import TrainCheckpoints, TrainConfig
from tests.distillation.toy_teacher import TASK, load, random_adapter

CONFIG = TrainConfig(
    num_epochs=4, batch_size=4, learning_rate=1e-2, rank=2, alpha=4.0, targets=('q_proj', 'v_proj')
)


@pytest.fixture(scope='module')
def models():
    return {side: load(side) for side in ('source', 'target')}


@pytest.fixture(scope='module')
def arguments(models):
    """Everything but the files."""
    rows = tasks.get(TASK).pools(None, 'direct').train[:16]
    return dict(
        adapters={f'task{i}': random_adapter(models['source'][0], i, size=0.1) for i in range(2)},
        prompts=[row.prompt for row in rows],
        config=CONFIG, answer_batch_size=16, max_len=32, max_new_tokens=8, adapters_per_step=1,
    )  # fmt: skip


def run(models, arguments, calls, **files):
    """Distils; `calls` gets the names of the models that are loaded."""

    def loader(side):
        def load_side():
            calls.append(side)
            return models[side]

        return load_side

    return distill_function(loader('source'), loader('target'), **arguments, **files)


def test_the_target_learns_the_better_half_and_a_killed_call_goes_on(
    models, arguments, tmp_path, monkeypatch
):
    calls = []
    whole = run(models, arguments, calls)
    assert calls == ['source', 'target'] and list(whole) == ['task0', 'task1']

    class Killed(Exception):
        pass

    save, steps = TrainCheckpoints.save, []

    def dying(self, step, state):
        save(self, step, state)
        steps.append(step)
        if len(steps) == 2:
            raise Killed

    files = dict(
        label_files={task: tmp_path / f'{task}.jsonl' for task in whole}, state=tmp_path / 'state'
    )
    monkeypatch.setattr(TrainCheckpoints, 'save', dying)
    with pytest.raises(Killed):  # as the second adapter is done, before anything is returned
        run(models, arguments, calls, **files)
    assert calls[2:] == ['source', 'target']
    again = run(models, arguments, calls, **files)
    assert calls[4:] == ['target'], 'answers that are stored are not given again'
    assert len(steps) == 2, 'nor are trainings done again whose states are stored'
    jax.tree.map(np.testing.assert_array_equal, again, whole)

    model, chat = models['target']
    for task in whole:
        labels = examples.read(files['label_files'][task])
        assert 1 <= len(labels) <= 8
        rows = examples.encode(chat, labels, 32, task)
        before, after = (
            answer_nll(model, adapter, rows, 8, chat.pad_id).mean()
            for adapter in (None, whole[task])
        )
        assert after < before


def test_it_goes_on_from_given_adapters(models, arguments, tmp_path):
    still = {**arguments, 'config': TrainConfig(**{**vars(CONFIG), 'learning_rate': 0.0})}
    model, _ = models['target']
    start = {
        task: random_adapter(model, i, rank=2, targets=CONFIG.targets)
        for i, task in enumerate(still['adapters'], 5)
    }
    rows = tasks.get(TASK).pools(None, 'direct').train[:4]
    files = {task: tmp_path / f'{task}.jsonl' for task in start}
    for path in files.values():
        examples.write(path, rows)
    calls = []
    same = run(models, still, calls, start_from=start, label_files=files)
    assert calls == ['target']
    jax.tree.map(np.testing.assert_array_equal, same, start)  # the scale 2 is exact both ways
