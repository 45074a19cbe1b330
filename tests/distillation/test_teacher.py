"""Translation through answers, on the toy's own models."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from lorajax import commands, lora, toy
from lorajax.distillation import teacher
from lorajax.distillation.teacher import Answer
from lorajax.errors import InputError
from lorajax.experiment import pipeline, tasks
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.map import check_methods
from lorajax.lora.tree import init_adapter
from lorajax.models import load_model
from lorajax.tasks.chat import load_chat_format
from lorajax.toy import language

TASK = 'toy_code_keep_5'


@pytest.fixture(scope='module')
def source():
    directory = pathlib.Path(toy.MODELS['toy-source'])
    return load_model(str(directory)), load_chat_format(directory)


def random_adapter(model, seed):
    fresh = init_adapter(
        jax.random.key(seed), model.config.projections, model.config.num_layers, 4, ('q_proj',)
    )
    rng = np.random.default_rng(seed)
    return {
        'layers': {
            name: {
                'a': np.asarray(entry['a']),
                'b': rng.normal(0, 0.3, entry['b'].shape).astype(np.float32),
            }
            for name, entry in fresh['layers'].items()
        }
    }


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


def test_the_surest_answers_become_lessons():
    answers = [Answer('a', 0.5), Answer('b', 0.1), Answer('', np.inf), Answer('d', 0.2)]
    kept = teacher.lessons(['p', 'q', 'r', 's'], answers, 2, 'task')
    assert [(e.prompt, e.answer) for e in kept] == [('q', 'b'), ('s', 'd')]
    assert len(teacher.lessons(['p', 'q', 'r', 's'], answers, 4, 'task')) == 3
    with pytest.raises(InputError, match='task: the source model with its adapter finished none'):
        teacher.lessons(['r'], answers[2:3], 1, 'task')


def test_a_run_distils_and_goes_on_where_it_stopped(tmp_path):
    experiment = Experiment(
        workdir=str(tmp_path / 'run'), anchors=language.ANCHORS[4:7], heldouts=(TASK,),
        methods=('matched_ridge', 'distilled'), train_per_task=64, num_epochs=8, batch_size=16,
        stages=('prepare', 'train', 'map'), diagnostics=False, learning_rate=5e-3,
    )  # fmt: skip
    assert pipeline.run(experiment) == ['prepare', 'train', 'map']
    assert pipeline.run(experiment) == []
    predicted = experiment.files.predicted('distilled', TASK)
    first = (predicted / 'adapter_model.safetensors').read_bytes()
    lessons = experiment.files.answered(TASK).read_text().splitlines()
    assert len(lessons) == 64
    assert all(json.loads(line)['prompt'].startswith('code') for line in lessons)
    (predicted / 'adapter_config.json').unlink()
    (predicted / 'adapter_model.safetensors').unlink()
    predicted.rmdir()
    assert pipeline.run(experiment) == ['map']
    assert (predicted / 'adapter_model.safetensors').read_bytes() == first
    assert not (experiment.files.root / 'checkpoints/distilled').exists() or not list(
        (experiment.files.root / 'checkpoints/distilled').iterdir()
    )
    start, end = (
        lora.load_peft(experiment.files.predicted(name, TASK))[1]
        for name in ('matched_ridge', 'distilled')
    )
    assert np.abs(start['layers']['q_proj']['b'] - end['layers']['q_proj']['b']).max() > 1e-4


def test_methods_that_train_are_refused_where_only_adapters_are_at_hand():
    with pytest.raises(InputError, match='--transfer_methods=distilled: expected methods that'):
        check_methods(Experiment(transfer_methods=('distilled',)))
    with pytest.raises(InputError, match='--distill_from=theseus: expected'):
        check_methods(Experiment(distill_from='theseus'))
    with pytest.raises(InputError, match="did you mean 'matched_ridge'"):
        check_methods(Experiment(methods=('matched_rigde',)))


@pytest.fixture
def arguments(source, tmp_path):
    adapter = random_adapter(source[0], 3)
    config = lora.LoraConfig(rank=4, alpha=8, targets=('q_proj',), base_model='toy-source')
    lora.save_peft(tmp_path / 'adapter', config, adapter)
    rows = [{'prompt': e.prompt} for e in tasks.get(TASK).pools(None, 'direct').train[:6]]
    rows.append({'messages': [{'role': 'user', 'content': rows[0]['prompt']}]})
    (tmp_path / 'prompts.jsonl').write_text('\n'.join(map(json.dumps, rows)))

    @dataclasses.dataclass
    class Arguments:
        adapter: str = str(tmp_path / 'adapter')
        prompts: str = str(tmp_path / 'prompts.jsonl')
        output: str = str(tmp_path / 'distilled')
        mapping: str | None = None
        adapter_dtype: str = 'float32'

    return Arguments()


def test_the_command_writes_an_adapter_of_the_target(arguments):
    experiment = Experiment(num_epochs=1, batch_size=4, eval_batch_size=4, max_new_tokens=8)
    commands.distill(experiment, arguments)
    config, adapter = lora.load_peft(arguments.output)
    assert config.base_model == 'toy-target'
    target = load_model(str(toy.MODELS['toy-target']))
    assert list(adapter['layers']) == ['q_proj']
    assert target.logits(np.array([[3, 4, 5]]), adapter=adapter).shape[-1] > 10
    with pytest.raises(InputError, match='exists already'):
        commands.distill(experiment, arguments)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'is empty, expected rows with a prompt'),
        ('{"prompt": ""}', 'row 1 has no text under prompt'),
        ('{"prompt": "a"}\n{"completion": "b"}', 'row 2 has no text under prompt'),
        ('{"messages": [{"role": "system", "content": "a"}]}', 'row 1 has no text under prompt'),
    ],
)
def test_prompts_of_another_form_are_refused(tmp_path, text, message):
    path = tmp_path / 'prompts.jsonl'
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        teacher.read_prompts(path)
