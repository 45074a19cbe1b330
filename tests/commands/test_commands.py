"""The commands beside `run`, called as the command line calls them."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from lorajax import commands, io, lora, mapping, toy
from lorajax.errors import InputError
from lorajax.experiment import memory
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.common import PROVENANCE
from lorajax.io import tensor_files
from lorajax.models import config as config_lib
from lorajax.models import presets

SMALL = Experiment(lora_rank=2, batch_size=4, num_epochs=2, eval_per_task=5, eval_batch_size=5)


def args(**values):
    names = (
        'mapping', 'adapter', 'output', 'model', 'task', 'train_file', 'adapters', 'tasks',
        'system',
    )  # fmt: skip
    given = (
        dict.fromkeys((*names, 'prompt', 'pairs', 'method'), None)
        | {'temperature': 0.0, 'adapter_dtype': 'float32'}
        | values
    )
    return types.SimpleNamespace(**{k: str(v) if v and k == 'output' else v
                                    for k, v in given.items()})  # fmt: skip


def random_adapter(side, seed):
    config = config_lib.read(toy.MODELS[f'toy-{side}'])
    key = jax.random.key(seed)
    fresh = lora.init_adapter(key, config.projections, config.num_layers, 2, lora.TARGETS)
    return jax.tree.map(lambda x: np.asarray(x + 0.1 * jax.random.normal(key, x.shape)), fresh)


@pytest.fixture
def translation(tmp_path):
    """A fitted mapping and a source adapter on disk."""
    anchors = [
        {f't{seed}': random_adapter(side, seed) for seed in range(4)}
        for side in ('source', 'target')
    ]
    fitted = mapping.fit('delta_ridge', *anchors)
    fitted.save(tmp_path / 'mapping')
    bases = {'source': 'a/source', 'target': 'a/target'}
    io.write_json(tmp_path / 'mapping' / PROVENANCE, bases)
    query = random_adapter('source', 9)
    config = lora.LoraConfig(rank=2, alpha=2, base_model='a/source')
    lora.save_peft(tmp_path / 'query', config, query)
    return tmp_path, fitted.predict(query)


def test_translate_writes_what_the_mapping_predicts(translation):
    root, expected = translation
    given = args(mapping=root / 'mapping', adapter=root / 'query', output=root / 'out')
    commands.translate(SMALL, given)
    config, actual = lora.load_peft(root / 'out')
    assert config.base_model == 'a/target'
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), actual, expected)
    card = (root / 'out' / 'README.md').read_text()
    assert "base_model: 'a/target'" in card and str(root / 'query') in card
    # Random adapters have nothing in common, so their translation deserves the warning or none
    # according to the distances alone.
    fitted = mapping.load(root / 'mapping')
    report = fitted.explain(lora.load_peft(root / 'query')[1]).report
    farthest = max(fitted.diagnostics['anchor_span_distances'])
    assert ('Warning' in card) == (report['distance_to_span'] > farthest)
    with pytest.raises(InputError, match='exists already'):
        commands.translate(SMALL, given)


def test_translate_writes_the_dtype_asked_for(translation):
    root, _ = translation
    given = args(mapping=root / 'mapping', adapter=root / 'query', output=root / 'out',
                 adapter_dtype='bfloat16')  # fmt: skip
    commands.translate(SMALL, given)
    written = tensor_files.read(root / 'out' / 'adapter_model.safetensors')
    assert {value.dtype.name for value in written.values()} == {'bfloat16'}


def cut(projections, layers=slice(None)):
    def change(tree):
        return {
            'layers': {
                name: {key: leaf[layers] for key, leaf in tree['layers'][name].items()}
                for name in projections
            }
        }

    return change


Q = 'query adapter: q_proj: expected Shape(layers=4, n_in=64, rank=2, n_out=64), got'


@pytest.mark.parametrize(
    ('side', 'change', 'line'),
    [
        ('target', cut(lora.TARGETS), f'{Q} Shape(layers=3, n_in=96, rank=2, n_out=96)'),
        ('source', cut(lora.TARGETS, slice(3)), f'{Q} Shape(layers=3, n_in=64, rank=2, n_out=64)'),
        ('source', cut(['q_proj', 'v_proj']), 'query adapter: expected projections '
         f"{list(lora.TARGETS)}, got ['q_proj', 'v_proj']"),
    ],
    ids=['widths', 'depth', 'projections'],
)  # fmt: skip
def test_translate_refuses_shapes_of_another_base(translation, side, change, line):
    root, _ = translation
    tree = change(random_adapter(side, 9))
    config = lora.LoraConfig(rank=2, alpha=2, base_model='a/source', targets=tuple(tree['layers']))
    lora.save_peft(root / 'other', config, tree)
    given = args(mapping=root / 'mapping', adapter=root / 'other', output=root / 'out')
    with pytest.raises(InputError) as error:
        commands.translate(SMALL, given)
    assert str(error.value) == f'--adapter={root}/other: {line}'
    assert not (root / 'out').exists()


@pytest.mark.parametrize('text', ['[]', '{"source": "a/source"}'])
def test_translate_refuses_a_mapping_without_its_bases(translation, text):
    root, _ = translation
    path = root / 'mapping' / PROVENANCE
    path.write_text(text)
    given = args(mapping=root / 'mapping', adapter=root / 'query', output=root / 'out')
    with pytest.raises(InputError) as error:
        commands.translate(SMALL, given)
    shown = repr(json.loads(text))
    assert str(error.value) == f'{path}: is {shown}, expected the names of source and target'


def test_generate_refuses_an_adapter_of_another_base(tmp_path):
    config = lora.LoraConfig(rank=2, alpha=2)
    lora.save_peft(tmp_path / 'x', config, random_adapter('source', 1))
    with pytest.raises(InputError) as error:
        commands.generate(
            SMALL, args(model='toy-target', adapter=str(tmp_path / 'x'), prompt='code')
        )
    assert str(error.value) == (
        f'{tmp_path}/x/adapter_model.safetensors: has layer 3, the model has 3 layers'
    )


def test_translate_refuses_an_adapter_of_another_base(translation):
    root, _ = translation
    path = root / 'query' / 'adapter_config.json'
    path.write_text(path.read_text().replace('a/source', 'b/other'))
    with pytest.raises(InputError, match=r'belongs to b/other, .* adapters of a/source'):
        commands.translate(
            SMALL, args(mapping=root / 'mapping', adapter=root / 'query', output=root / 'out')
        )
    assert not (root / 'out').exists()


def test_train_then_evaluate_then_generate(tmp_path, capsys):
    rows = [
        {'prompt': 'code ? ? ca cb cc cd', 'completion': 'cf cg ch ci'},
        {'messages': [{'role': 'user', 'content': 'code ? ? cb cb cc cd'},
                      {'role': 'assistant', 'content': 'cg cg ch ci'}]},
    ]  # fmt: skip
    file = tmp_path / 'mine.jsonl'
    file.write_text('\n'.join(map(json.dumps, rows)))
    many = dataclasses.replace(SMALL, num_epochs=60, learning_rate=2e-2)
    commands.train(many, args(model='toy-target', train_file=str(file), output=tmp_path / 'out'))
    commands.generate(
        dataclasses.replace(SMALL, max_new_tokens=8),
        args(model='toy-target', adapter=str(tmp_path / 'out'), prompt='code ? ? ca cb cc cd'),
    )
    assert capsys.readouterr().out.split() == ['cf', 'cg', 'ch', 'ci']
    commands.evaluate(
        SMALL,
        args(
            model='toy-target',
            adapters=[str(tmp_path / 'out')],
            tasks=['toy_code_keep_5'],
            output=tmp_path / 'rows.jsonl',
        ),
    )
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[1] for line in lines] == ['base', str(tmp_path / 'out')]
    assert len(io.read_jsonl(tmp_path / 'rows.jsonl')) == 10


def say(role, content):
    return {'role': role, 'content': content}


CONVERSATION = [
    say('user', 'What is 2 + 2?'),
    say('assistant', 'It is 4.'),
    say('user', 'Where is Paris?'),
    say('assistant', 'Paris is in France.'),
]
ROWS = {
    'qwen2': {'messages': [say('system', 'Be brief.'), *CONVERSATION]},
    'llama': {'prompt': [say('system', 'Be brief.'), *CONVERSATION[:3]],
              'completion': CONVERSATION[3:]},
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize('family', ['qwen2', 'llama'])
def test_what_conversations_taught_is_said_here_and_in_peft(tmp_path, capsys, family):
    torch = pytest.importorskip('torch')
    peft = pytest.importorskip('peft')
    from tests import chat_templates
    from tests.models import reference

    base = tmp_path / 'base'
    tokenizer = chat_templates.write(base, family)
    stops = (base / 'generation_config.json').read_text()
    theirs = reference.make(
        base, family, vocab_size=len(tokenizer), num_hidden_layers=2, initializer_range=0.05
    )
    (base / 'generation_config.json').write_text(stops)
    row = ROWS[family]
    (tmp_path / 'rows.jsonl').write_text('\n'.join([json.dumps(row)] * 4))
    recipe = dataclasses.replace(
        SMALL, num_epochs=80, learning_rate=1e-2, max_len=256, lora_rank=8, max_new_tokens=16
    )
    commands.train(
        recipe,
        args(model=str(base), train_file=str(tmp_path / 'rows.jsonl'), output=tmp_path / 'out'),
    )
    # The last answer comes after the whole conversation, so it is asked for through peft.
    wrapped = peft.PeftModel.from_pretrained(theirs, tmp_path / 'out').eval()
    history = [say('system', 'Be brief.'), *CONVERSATION[:3]]
    for messages, answer in ((history[:2], 'It is 4.'), (history, 'Paris is in France.')):
        prompt = torch.tensor([
            tokenizer.apply_chat_template(
                messages, tokenize=True, add_generation_prompt=True, date_string='26 Jul 2024'
            )['input_ids']
        ])  # fmt: skip
        said = wrapped.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16,
            do_sample=False, eos_token_id=json.loads(stops)['eos_token_id'],
            pad_token_id=tokenizer.pad_token_id,
        )[0, prompt.shape[1] :]  # fmt: skip
        said = tokenizer.decode(said, skip_special_tokens=True)
        if len(messages) == 2:
            commands.generate(
                recipe,
                args(model=str(base), adapter=str(tmp_path / 'out'), prompt='What is 2 + 2?',
                     system='Be brief.'),
            )  # fmt: skip
            assert capsys.readouterr().out == said + '\n'
        if family == 'qwen2' or len(messages) > 2:  # earlier answers of a prompt are context
            assert said == answer


def test_a_bad_row_ends_before_any_weight_is_read_and_nothing_is_written(tmp_path):
    from tests import chat_templates

    chat_templates.write(tmp_path / 'base', 'qwen2')  # a directory without weights
    rows = tmp_path / 'rows.jsonl'
    good = json.dumps({'messages': CONVERSATION})
    for bad, line in (
        (json.dumps({'messages': CONVERSATION[:3]}), ':2: the last message is of user'),
        ('{', ':2: not valid JSON'),
    ):
        rows.write_text(f'{good}\n{bad}\n')
        with pytest.raises(InputError, match=line):
            commands.train(SMALL, args(model=str(tmp_path / 'base'), train_file=str(rows),
                                       output=tmp_path / 'out'))  # fmt: skip
    rows.write_text(good)
    with pytest.raises(InputError, match=r'--max_len=32: no prompt .* the shortest has \d+ tokens'):
        commands.train(SMALL, args(model=str(tmp_path / 'base'), train_file=str(rows),
                                   output=tmp_path / 'out'))  # fmt: skip
    assert not (tmp_path / 'out').exists()


def test_a_system_message_needs_a_template_that_takes_it(tmp_path):
    from lorajax.tasks.chat import load_chat_format
    from tests import chat_templates

    tokenizer = chat_templates.write(tmp_path, 'qwen2')
    chat = dataclasses.replace(load_chat_format(tmp_path), tokenizer=tokenizer)
    written = tokenizer.decode(chat.encode_prompt('x', 'Be brief.'))
    assert written == (
        '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n'
        '<|im_start|>assistant\n'
    )
    tokenizer.chat_template = "{{ raise_exception('no system') }}"
    with pytest.raises(InputError, match='--system: the chat template refuses it: no system'):
        chat.encode_prompt('x', 'Be brief.')
    tokenizer.chat_template = None
    with pytest.raises(InputError, match='--system: the tokenizer has no chat template'):
        chat.encode_prompt('x', 'Be brief.')


def test_doctor_looks_at_one_model(tmp_path, capsys):
    config = {'model_type': 'llama', **config_lib.to_hf(presets.LLAMA3_2_3B)}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    commands.doctor(SMALL, args(model=str(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith(f'model {tmp_path}: ')]
    assert f'{presets.LLAMA3_2_3B.num_params / 1e6:,.1f} million parameters' in line
    parts = memory.training_bytes(
        dataclasses.replace(SMALL, adapters_per_step=1), presets.LLAMA3_2_3B
    )
    assert f'{parts["params"] / 1024**3:.2f} params' in line
    assert not any(line.startswith('source') for line in lines)


def test_doctor_counts_what_shapes_say():
    experiment = dataclasses.replace(
        SMALL, param_dtype='bfloat16', lora_rank=16, adapters_per_step=1, mesh=(1, 1, 1)
    )
    for config, factors in ((presets.QWEN2_5_3B, 29_933_568), (presets.LLAMA3_2_3B, 24_313_856)):
        parts = memory.training_bytes(experiment, config)
        assert parts['params'] == 2 * config.num_params
        assert parts['adapters'] == 16 * factors
    assert any('fits' in line for line in memory.describe(SMALL))
