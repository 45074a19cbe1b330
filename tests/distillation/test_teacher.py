"""Answers of the teacher, on the toy's own source model."""

import jax
import numpy as np
import pytest

from lorajax.distillation import pseudo_labels, teacher
from lorajax.experiment import tasks
from lorajax.tasks.task import Prompt
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


def test_what_stands_before_a_prompt_is_kept_in_question_and_pseudo_label(source):
    _, chat = source
    before = ({'role': 'user', 'content': 'ca'}, {'role': 'assistant', 'content': 'cb'})
    prompt = Prompt('sd sb', before)
    ids = teacher.encode(chat, prompt)
    assert chat.tokenizer.decode(ids) == 'ca = cb<end>sd sb ='
    np.testing.assert_array_equal(teacher.encode(chat, Prompt('sd')), chat.encode_prompt('sd'))
    learned = chat.encode(pseudo_labels.example('t', prompt, 'se sc'))
    np.testing.assert_array_equal(learned.prompt, ids)
