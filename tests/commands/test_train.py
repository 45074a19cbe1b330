"""One adapter on one task or on rows of one's own: learned, written, said again."""

import json

import numpy as np
import pytest

from lorajax import lora
from lorajax.commands import COMMANDS, parse
from lorajax.errors import ArgumentError, InputError
from tests.commands.command_line import run

SMALL = ['--lora_rank=2', '--lora_alpha=4', '--batch_size=4', '--max_len=32', '--dtype=float32',
         '--param_dtype=float32']  # fmt: skip


def test_train_then_generate(tmp_path, capsys):
    rows = [
        {'prompt': 'code ? ? ca cb cc cd', 'completion': 'cf cg ch ci'},
        {'messages': [{'role': 'user', 'content': 'code ? ? cb cb cc cd'},
                      {'role': 'assistant', 'content': 'cg cg ch ci'}]},
    ]  # fmt: skip
    (tmp_path / 'mine.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    run('train', '--model=toy-target', f'--train_file={tmp_path}/mine.jsonl',
        f'--output={tmp_path}/out', *SMALL, '--num_epochs=60', '--learning_rate=2e-2')  # fmt: skip
    run('generate', '--model=toy-target', f'--adapter={tmp_path}/out', '--max_new_tokens=8',
        '--prompt=code ? ? ca cb cc cd', '--dtype=float32')  # fmt: skip
    assert capsys.readouterr().out.split() == ['cf', 'cg', 'ch', 'ci']
    config, _ = lora.load_peft(tmp_path / 'out')
    assert (config.rank, config.alpha, config.base_model) == (2, 4, 'toy-target')


def test_each_recipe_of_a_sweep_is_trained_as_if_alone(tmp_path):
    rows = [{'prompt': f'code ? ? ca c{c} cc cd', 'completion': f'cf c{c} ch'} for c in 'abdefghi']
    (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    lines = [{'name': 'narrow', 'lora_rank': 1, 'lora_targets': ['q_proj', 'up_proj']},
             {'name': 'quick', 'learning_rate': 2e-2, 'num_epochs': 1},
             {'name': 'slow', 'learning_rate': 1e-3, 'batch_size': 2}]  # fmt: skip
    (tmp_path / 'sweep.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    call = ['train', '--model=toy-target', f'--train_file={tmp_path}/rows.jsonl', *SMALL,
            '--num_epochs=2', '--learning_rate=1e-2']  # fmt: skip
    run(*call, f'--output={tmp_path}/out', f'--sweep={tmp_path}/sweep.jsonl',
        '--adapters_per_step=2')  # fmt: skip
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['metrics.jsonl', 'narrow', 'quick', 'slow']
    run(*call, f'--output={tmp_path}/alone', '--lora_rank=1', '--lora_targets=q_proj,up_proj')
    config, swept = lora.load_peft(tmp_path / 'out' / 'narrow')
    _, alone = lora.load_peft(tmp_path / 'alone')
    assert (config.rank, config.alpha, config.targets) == (1, 4, ('q_proj', 'up_proj'))
    assert swept['layers'].keys() == alone['layers'].keys()
    for name, entry in alone['layers'].items():
        for factor, value in entry.items():
            # Adam's first steps are nearly the signs of gradients: rounding decides where they
            # are zero. The recipes of the sweep are 0.1 and more apart.
            distance = np.linalg.norm(swept['layers'][name][factor] - value)
            assert distance <= 1e-3 * np.linalg.norm(value), (name, factor)


def test_evaluation_items_of_all_heldouts_are_kept_out_of_a_task(tmp_path, monkeypatch):
    from lorajax.commands import train as command
    from lorajax.experiment import tasks
    from lorajax.tasks import data, registry
    from tests.tasks import small_data

    class Drawn(Exception):
        """Carries the rows out, before any of them is learned."""

    def stop(chat, rows, max_len, label):
        raise Drawn(rows)

    small_data.write(tmp_path / 'data')
    monkeypatch.setattr(command.examples, 'encode', stop)
    with pytest.raises(Drawn) as drawn:
        run('train', '--model=toy-target', '--task=gsm_hard', f'--data_dir={tmp_path}/data',
            f'--output={tmp_path}/out', '--eval_per_task=4', *SMALL)  # fmt: skip
    learned = {id for example in drawn.value.args[0] for id in example.problem_ids}
    heldouts = [task for task in registry.TASKS.values() if task.role == 'heldout']
    source = data.DataSource(str(tmp_path / 'data'))
    scored = data.draw_raw((), heldouts, source, 4, 0)
    assert learned and tasks.get('gsm_hard') in heldouts
    for rows in scored.values():
        assert rows.eval and not learned & {id for e in rows.eval for id in e.problem_ids}


def test_the_recipe_is_not_the_toys():
    parsed = parse.parse(['train', '--model=m', '--output=o', '--task=t'])
    config = parsed.experiment.train_config
    assert (config.rank, config.learning_rate, config.schedule) == (16, 2e-4, 'linear')
    assert COMMANDS['train'].defaults({})['max_len'] == 1024


def test_one_of_task_and_file_is_needed(tmp_path):
    call = ['train', '--model=toy-target', f'--output={tmp_path}/out']
    for more in ([], ['--task=toy_code_keep_5', '--train_file=x']):
        with pytest.raises(InputError, match='--task, --train_file: expected one of the two'):
            run(*call, *more)


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
    run('train', f'--model={base}', f'--train_file={tmp_path}/rows.jsonl',
        f'--output={tmp_path}/out', *SMALL, '--num_epochs=80', '--learning_rate=1e-2',
        '--max_len=256', '--lora_rank=8', '--lora_alpha=8', '--schedule=cosine')  # fmt: skip
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
            run('generate', f'--model={base}', f'--adapter={tmp_path}/out', '--dtype=float32',
                '--param_dtype=float32', '--prompt=What is 2 + 2?', '--system=Be brief.',
                '--max_new_tokens=16')  # fmt: skip
            assert capsys.readouterr().out == said + '\n'
        if family == 'qwen2' or len(messages) > 2:  # earlier answers of a prompt are context
            assert said == answer


def test_a_bad_row_ends_before_any_weight_is_read_and_nothing_is_written(tmp_path):
    from tests import chat_templates

    chat_templates.write(tmp_path / 'base', 'qwen2')  # a directory without weights
    rows = tmp_path / 'rows.jsonl'
    good = json.dumps({'messages': CONVERSATION})
    call = ['train', f'--model={tmp_path}/base', f'--train_file={rows}', f'--output={tmp_path}/out',
            *SMALL]  # fmt: skip
    for bad, line in (
        (json.dumps({'messages': CONVERSATION[:3]}), ':2: the last message is of user'),
        ('{', ':2: not valid JSON'),
    ):
        rows.write_text(f'{good}\n{bad}\n')
        with pytest.raises(InputError, match=line):
            run(*call)
    rows.write_text(good)
    with pytest.raises(
        ArgumentError, match=r'max_len 32: no prompt .* the shortest has \d+ tokens'
    ):
        run(*call)
    assert not (tmp_path / 'out').exists()


def test_an_interrupted_training_goes_on_and_ends_with_the_same_bytes(
    tmp_path, monkeypatch, caplog
):
    from lorajax import io, progress
    from lorajax.errors import Interrupted
    from lorajax.training import MetricWriter

    lines = [
        {'prompt': f'code ? ? c{a} c{b} cc cd', 'completion': f'c{b} c{a}'}
        for a in 'abcd' for b in 'efg'
    ]  # fmt: skip
    (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, lines)))

    def call(name, *more):
        run('train', '--model=toy-target', f'--train_file={tmp_path}/rows.jsonl',
            f'--output={tmp_path}/{name}', *SMALL, '--num_epochs=8', '--validation_split=0.25',
            '--checkpoint_every=5', *more)  # fmt: skip

    with caplog.at_level('INFO', logger='absl'):
        call('whole')
    assert 'base: validation loss ' in caplog.text
    rows = io.read_jsonl(tmp_path / 'whole/metrics.jsonl')
    looks = [row for row in rows if row['event'] == 'validation']
    # 9 rows are left, 3 steps a pass; the base is looked at before.
    assert [row['step'] for row in looks] == [0, *range(3, 25, 3)]
    assert list(looks[0]['loss']) == ['base'] and looks[-1]['step'] == 24
    assert [row['step'] for row in rows if row['event'] == 'train'] == [10, 20, 24]
    write, state = MetricWriter.write, tmp_path / 'cut.state'

    def interrupt(self, event, **values):
        write(self, event, **values)
        if event == 'validation' and values['step'] == 12:
            progress.interrupt(Interrupted(2))

    monkeypatch.setattr(MetricWriter, 'write', interrupt)
    try:
        with pytest.raises(Interrupted):
            call('cut')
    finally:
        progress._requests.clear()
    monkeypatch.undo()
    assert state.exists() and not (tmp_path / 'cut').exists()
    with pytest.raises(InputError, match=r'of a training with other .*: learning_rate'):
        call('cut', '--learning_rate=1e-3')
    call('cut')
    weights = 'adapter_model.safetensors'
    assert (tmp_path / 'cut' / weights).read_bytes() == (tmp_path / 'whole' / weights).read_bytes()
    again = io.read_jsonl(tmp_path / 'cut/metrics.jsonl')
    assert [row for row in again if row['event'] == 'validation'][-1]['loss'] == looks[-1]['loss']
    assert not state.exists()
    with pytest.raises(ArgumentError, match='exists already'):
        call('cut')
