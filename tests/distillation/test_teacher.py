"""Answers of the teacher, on the toy's own source model."""

import jax
import numpy as np
import pytest

from lorajax.distillation import teacher
from lorajax.experiment import tasks
from tests.distillation.toy_teacher import TASK, load, random_adapter


@pytest.fixture(scope='module')
def source():
    return load('source')


def test_answers_are_those_of_each_adapter_alone(source):
    model, chat = source
    adapters = {f'task{i}': random_adapter(model, i) for i in range(2)}
    prompts = [
        tasks.get(TASK).pools(None, 'direct').train[i].prompt + extra
        for i, extra in enumerate(('', ' ca', ''))
    ]
    kwargs = {'batch_size': 2, 'max_len': 32, 'max_new_tokens': 8}
    together = teacher.answer(model, chat, adapters, prompts, **kwargs)
    for task, adapter in adapters.items():
        for prompt, answer in zip(prompts, together[task], strict=True):
            ids = chat.encode_prompt(prompt)
            said = np.asarray(
                model.generate(
                    ids[None], adapter=adapter, max_new_tokens=8, eos_ids=chat.stop_ids,
                    pad_id=chat.pad_id,
                )
            )[0]  # fmt: skip
            stops = np.flatnonzero(np.isin(said, chat.stop_ids))
            assert answer.text == chat.decode(said).strip()
            if not len(stops):
                assert answer.nll == np.inf
                continue
            said = said[: stops[0] + 1]
            logits = np.asarray(model.logits(np.concatenate([ids, said])[None], adapter=adapter))[0]
            losses = -jax.nn.log_softmax(logits[len(ids) - 1 : -1])[np.arange(len(said)), said]
            assert answer.nll == pytest.approx(float(losses.mean()), rel=1e-4)
    assert any(np.isfinite(a.nll) for a in together['task0'])
