"""From messages to tokens, in the chat formats of both families.

The loss counts every answer with its end token and nothing else. The reference is transformers:
the templates with marked answers, `apply_chat_template` with `return_assistant_tokens_mask`.
"""

import dataclasses
import json

import numpy as np
import pytest

from lorajax import models
from lorajax.errors import ArgumentError, InputError
from lorajax.tasks.batching import make_batch, shape_of
from lorajax.tasks.chat import Conversation, load_chat_format, truncate
from lorajax.tasks.task import Example
from tests import chat_templates, tiny_models

TEXTS = ['What is 2 + 2? The answer is 4.', 'Paris is a city in France.']
EXAMPLE = Example(item='x', prompt='What is 2 + 2?', answer='The answer is 4.', reference='4')
DATE = '26 Jul 2024'
SYSTEM = {'role': 'system', 'content': 'Answer in one word.'}
ONE = [
    {'role': 'user', 'content': 'What is 2 + 2?'},
    {'role': 'assistant', 'content': 'It is 4.'},
]
THREE = [
    *ONE,
    {'role': 'user', 'content': 'Where is Paris?'},
    {'role': 'assistant', 'content': 'Paris is in France.\n\nYes.'},
    {'role': 'user', 'content': '3?\n'},
    {'role': 'assistant', 'content': '5'},
]
FORMS = {'one': ONE, 'system and one': [SYSTEM, *ONE], 'three': THREE,
         'system and three': [SYSTEM, *THREE],
         'two of the user': [ONE[0], *ONE]}  # fmt: skip


def load(tmp_path, family):
    tmp_path.mkdir(exist_ok=True)
    tiny_models.write_tokenizer(tmp_path, family, TEXTS)
    (tmp_path / 'config.json').write_text(f'{{"model_type": "{family}"}}')
    return load_chat_format(tmp_path)


@pytest.mark.parametrize('family', ['qwen2', 'llama'])
def test_answer_tokens_are_the_answer_and_the_end(tmp_path, family):
    chat = load(tmp_path, family)
    encoded = chat.encode(EXAMPLE)
    tokens = chat.tokenizer.convert_ids_to_tokens(encoded.answer)
    assert tokens[-1] == tiny_models.END[family]
    assert tokens.count(tiny_models.END[family]) == 1
    assert chat.tokenizer.decode(encoded.answer[:-1]) == 'The answer is 4.'
    assert chat.decode(np.append(encoded.answer, [5, 6])) == 'The answer is 4.'


def test_prompts_follow_each_template(tmp_path):
    qwen = load(tmp_path / 'q', 'qwen2')
    assert qwen.tokenizer.decode(qwen.encode(EXAMPLE).prompt) == (
        '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
        '<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n'
    )
    llama = load(tmp_path / 'l', 'llama')
    assert llama.tokenizer.decode(llama.encode(EXAMPLE).prompt) == (
        '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024'
        '\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhat is 2 + 2?<|eot_id|>'
        '<|start_header_id|>assistant<|end_header_id|>\n\n'
    )


def test_without_a_template_the_answer_still_ends(tmp_path):
    chat = load(tmp_path, 'qwen2')
    chat.tokenizer.chat_template = None
    encoded = chat.encode(EXAMPLE)
    assert chat.tokenizer.decode(encoded.prompt) == 'What is 2 + 2?\n'
    assert encoded.answer[-1] == chat.stop_ids[0]


def test_truncation_keeps_the_beginning(tmp_path):
    encoded = load(tmp_path, 'qwen2').encode(EXAMPLE)
    size = len(encoded.prompt)
    assert truncate(encoded, size) is None
    np.testing.assert_array_equal(truncate(encoded, size + 2).answer, encoded.answer[:2])


def test_a_directory_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match='tokenizer'):
        load_chat_format(tmp_path / 'nothing')


def test_a_tokenizer_at_which_the_library_panics_is_refused(tmp_path):
    tiny_models.write_tokenizer(tmp_path, 'qwen2', TEXTS)
    path = tmp_path / 'tokenizer.json'
    content = json.loads(path.read_text())
    content['model']['continuing_subword_prefix'] = 'ByteLevel'  # longer than what it is cut off,
    content['model']['merges'][4][1] = ''  # which is this
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match='tokenizer does not load: range end index'):
        load_chat_format(tmp_path)


def test_a_system_message_needs_a_template_that_takes_it(tmp_path):
    chat = load(tmp_path, 'qwen2')
    written = chat.tokenizer.decode(chat.encode_prompt('Hi', system='Be brief.'))
    assert written.startswith('<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi')
    chat.tokenizer.chat_template = "{{ raise_exception('no system here') }}"
    with pytest.raises(
        ArgumentError, match=r'system Be brief\.: the chat template refuses it: no s'
    ):
        chat.encode_prompt('Hi', system='Be brief.')
    chat.tokenizer.chat_template = None
    with pytest.raises(
        ArgumentError, match=r'system Be brief\.: the tokenizer has no chat templat'
    ):
        chat.encode_prompt('Hi', system='Be brief.')


@pytest.fixture(scope='module', params=['qwen2', 'llama'])
def chat(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    chat_templates.write(directory, request.param)
    return load_chat_format(directory)


def family_of(chat):
    return 'llama' if chat.tokenizer.bos_token else 'qwen2'


def encode(chat, messages, first_target=0):
    return chat.encode_conversation(Conversation('rows.jsonl:1', tuple(messages), first_target))


def tokens_and_mask(encoded):
    tokens = np.concatenate([encoded.prompt, encoded.answer])
    mask = np.zeros(len(tokens), int)
    mask[encoded.targets] = 1
    return tokens, mask


def reference(chat, messages):
    """What transformers writes and counts, up to the last counted token."""
    out = chat.tokenizer.apply_chat_template(
        messages, chat_template=chat_templates.MARKED[family_of(chat)], tokenize=True,
        return_dict=True, return_assistant_tokens_mask=True, date_string=DATE,
    )  # fmt: skip
    mask = np.array(out['assistant_masks'])
    stop = np.flatnonzero(mask)[-1] + 1
    return np.array(out['input_ids'])[:stop], mask[:stop]


@pytest.mark.parametrize('form', FORMS)
def test_tokens_and_loss_mask_are_those_of_transformers(chat, form):
    tokens, mask = tokens_and_mask(encode(chat, FORMS[form]))
    expected_tokens, expected_mask = reference(chat, FORMS[form])
    np.testing.assert_array_equal(tokens, expected_tokens)
    np.testing.assert_array_equal(mask, expected_mask)


@pytest.mark.parametrize('form', FORMS)
def test_the_targets_spell_the_answers_and_their_end_tokens(chat, form):
    encoded = encode(chat, FORMS[form])
    tokens, mask = tokens_and_mask(encoded)
    end = chat_templates.END[family_of(chat)]
    answers = [m['content'] for m in FORMS[form] if m['role'] == 'assistant']
    assert chat.tokenizer.decode(tokens[mask > 0]) == ''.join(text + end for text in answers)
    assert encoded.is_target is None or encoded.is_target[0]  # truncation relies on it


def test_the_whole_text_is_that_of_each_format(chat):
    tokens, _ = tokens_and_mask(encode(chat, [SYSTEM, *THREE[:4]]))
    written = chat.tokenizer.decode(tokens)
    if family_of(chat) == 'qwen2':
        assert written == (
            '<|im_start|>system\nAnswer in one word.<|im_end|>\n<|im_start|>user\nWhat is 2 + 2?'
            '<|im_end|>\n<|im_start|>assistant\nIt is 4.<|im_end|>\n<|im_start|>user\nWhere is '
            'Paris?<|im_end|>\n<|im_start|>assistant\nParis is in France.\n\nYes.<|im_end|>'
        )
        default = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.'
        assert chat.tokenizer.decode(encode(chat, ONE).prompt).startswith(
            f'<|im_start|>system\n{default}<|im_end|>\n<|im_start|>user\n'
        )
    else:
        head = (
            '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date:'
            ' December 2023\nToday Date: 26 Jul 2024\n\n'
        )
        user, assistant = (
            f'<|start_header_id|>{role}<|end_header_id|>\n\n' for role in ('user', 'assistant')
        )
        assert written == (
            f'{head}Answer in one word.<|eot_id|>{user}What is 2 + 2?<|eot_id|>{assistant}'
            f'It is 4.<|eot_id|>{user}Where is Paris?<|eot_id|>{assistant}Paris is in France.\n\n'
            'Yes.<|eot_id|>'
        )
        assert chat.tokenizer.decode(encode(chat, ONE).prompt) == (
            f'{head}<|eot_id|>{user}What is 2 + 2?<|eot_id|>{assistant}'
        )


@pytest.mark.parametrize('before', [[], ONE])
def test_the_boundary_holds_where_one_token_would_cross_it(tmp_path, before):
    chat_templates.write(tmp_path, 'qwen2')  # Llama's template trims the line break away
    chat = load_chat_format(tmp_path)
    messages = [*before, ONE[0], {'role': 'assistant', 'content': '\nIt is 4.'}]
    tokens, mask = tokens_and_mask(encode(chat, messages))
    whole = chat.tokenizer.apply_chat_template(messages, tokenize=True)['input_ids']
    assert len(whole) == len(tokens)  # one token less in the middle, a line break at the end
    assert chat.tokenizer.decode(tokens) == chat.tokenizer.decode(whole).removesuffix('\n')
    # What is generated after is exactly what was trained.
    prompt = chat.tokenizer.apply_chat_template(
        messages[:-1], tokenize=True, add_generation_prompt=True
    )['input_ids']
    np.testing.assert_array_equal(tokens[: len(prompt)], prompt)
    last = tokens[len(prompt) :]
    assert chat.tokenizer.decode(last) == '\nIt is 4.<|im_end|>'
    assert mask[len(prompt) :].all() and not mask[len(prompt) - 1]


def test_one_turn_is_encoded_as_an_example_is(chat):
    example = Example(item='x', prompt='What is 2 + 2?', answer='It is 4.', reference='4')
    found, expected = encode(chat, ONE), chat.encode(example)
    np.testing.assert_array_equal(found.prompt, expected.prompt)
    np.testing.assert_array_equal(found.answer, expected.answer)
    assert found.is_target is None


def test_earlier_answers_of_a_prompt_are_context(chat):
    encoded = encode(chat, [SYSTEM, *THREE], first_target=5)
    _, expected = reference(chat, [SYSTEM, *THREE])
    tokens, mask = tokens_and_mask(encoded)
    assert chat.tokenizer.decode(tokens[mask > 0]) == '5' + chat_templates.END[family_of(chat)]
    assert len(mask) == len(expected) and encoded.is_target is None


def test_batches_and_truncation_keep_the_mask(chat):
    encoded = encode(chat, THREE)
    tokens, mask = tokens_and_mask(encoded)
    assert shape_of([encoded]) == (len(tokens), mask.sum())
    batch = make_batch([encoded], 2, len(tokens) + 3, int(mask.sum()) + 2, pad_id=0)
    chosen = batch.target_index[0][batch.target_mask[0] > 0]
    np.testing.assert_array_equal(chosen, np.flatnonzero(mask))
    np.testing.assert_array_equal(batch.tokens[0, chosen], tokens[mask > 0])
    assert batch.target_mask.sum() == mask.sum()
    for size in (len(tokens) - 1, len(encoded.prompt) + 1):
        cut, cut_mask = tokens_and_mask(truncate(encoded, size))
        np.testing.assert_array_equal(cut, tokens[:size])
        np.testing.assert_array_equal(cut_mask, mask[:size])
    assert truncate(encoded, len(encoded.prompt)) is None


@pytest.mark.parity
@pytest.mark.parametrize('family', ['qwen2', 'llama'])
def test_the_loss_of_a_conversation_is_that_of_torch_on_marked_labels(tmp_path, family):
    torch = pytest.importorskip('torch')
    from lorajax.evaluation.inference import answer_nll
    from tests.models import reference as checkpoints

    chat_templates.write(tmp_path / 'chat', family)
    chat = load_chat_format(tmp_path / 'chat')
    theirs = checkpoints.make(
        tmp_path / 'base', family, vocab_size=len(chat.tokenizer), initializer_range=0.05
    )
    rows = [FORMS['system and three'], ONE]
    found = answer_nll(
        models.load_model(str(tmp_path / 'base')), None, [encode(chat, m) for m in rows], 2, 0
    )
    for value, messages in zip(found, rows, strict=True):
        ids, mask = reference(chat, messages)
        labels = torch.tensor(np.where(mask > 0, ids, -100))[None]
        with torch.no_grad():
            loss = theirs(torch.tensor(ids)[None], labels=labels).loss.item()
        assert value == pytest.approx(loss, rel=1e-5)


def test_templates_that_refuse_or_rewrite_are_named(tmp_path):
    tokenizer = chat_templates.write(tmp_path, 'qwen2')
    chat = load_chat_format(tmp_path)
    refusing = dataclasses.replace(chat, tokenizer=tokenizer)
    tokenizer.chat_template = "{{ raise_exception('no system here') }}"
    with pytest.raises(InputError, match=r'^rows\.jsonl:1: the chat .*no system here$'):
        encode(refusing, [SYSTEM, *ONE])
    tokenizer.chat_template = (  # as models that think do it: all answers but the last are cut
        "{% for m in messages %}{{ m['content'] if loop.last or m['role'] == 'user' }}"
        '<|im_end|>{% endfor %}'
    )
    with pytest.raises(InputError, match=r'^rows.jsonl:1: .* writes message 3 otherwise .* one an'):
        encode(refusing, THREE)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match=r'^rows.jsonl:1: the tokenizer has no chat template'):
        encode(refusing, THREE)


def test_a_template_without_end_tokens_gets_one_after_every_answer(tmp_path):
    tokenizer = chat_templates.write(tmp_path, 'qwen2')
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    chat = dataclasses.replace(load_chat_format(tmp_path), tokenizer=tokenizer)
    tokens, mask = tokens_and_mask(encode(chat, THREE[:4]))
    assert chat.tokenizer.decode(tokens[mask > 0]) == (
        'It is 4.\n<|im_end|>Paris is in France.\n\nYes.\n<|im_end|>'
    )


def write_ids(directory, generation, config, eos):
    """Rewrites where stop ids come from; None leaves the field or file out."""
    chat_templates.write(directory, 'llama')
    path = directory / 'generation_config.json'
    path.unlink() if generation is None else path.write_text(json.dumps(generation))
    (directory / 'config.json').write_text(json.dumps({'model_type': 'llama', **config}))
    if not eos:
        path = directory / 'tokenizer_config.json'
        raw = json.loads(path.read_text())
        del raw['eos_token']
        path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ('generation', 'config', 'eos', 'expected'),
    [
        ({'eos_token_id': [1, 4, 5]}, {'eos_token_id': 7}, True, (1, 4, 5)),
        ({'eos_token_id': 5}, {'eos_token_id': 7}, True, (5,)),
        ({'eos_token_id': [1, 4]}, {}, True, (5, 1, 4)),  # the tokenizer's own ends chats
        ({'eos_token_id': [1, 4]}, {}, False, (1, 4)),
        ({'temperature': 1.0}, {'eos_token_id': [5, 1]}, True, (5, 1)),
        (None, {'eos_token_id': 1}, False, (1,)),
        (None, {}, True, (5,)),
    ],
)
def test_stop_ids_come_from_generation_config_then_config_then_tokenizer(
    tmp_path, generation, config, eos, expected
):
    write_ids(tmp_path, generation, config, eos)
    assert load_chat_format(tmp_path).stop_ids == expected


def test_an_end_token_that_is_asked_for_comes_first(tmp_path):
    write_ids(tmp_path, {'eos_token_id': [1, 4]}, {}, True)
    chat = load_chat_format(tmp_path)
    name = chat.tokenizer.convert_ids_to_tokens(3)
    other = load_chat_format(tmp_path, name)
    assert other.stop_ids == (3, *chat.stop_ids)
    answer = chat.encode_answer('a', 'b')
    other.tokenizer.chat_template = None  # a template would write its own
    assert [*other.encode_answer('a', 'b')] == [*answer[:-1], 3]
    assert other.decode(np.array([*answer[:-1], 3, 4])) == chat.decode(answer)
    with pytest.raises(ArgumentError, match=r'end_tokens.*<none>.*is no token of'):
        load_chat_format(tmp_path, '<none>')


def test_stop_ids_that_are_none_or_no_ids_are_refused(tmp_path):
    write_ids(tmp_path / 'a', None, {}, False)
    with pytest.raises(InputError, match='no eos_token_id in tokenizer or generation_config'):
        load_chat_format(tmp_path / 'a')
    for bad in ('<|eot_id|>', [], [1, None], True, -1):
        write_ids(tmp_path / str(bad), {'eos_token_id': bad}, {}, True)
        with pytest.raises(InputError, match=r'generation_config\.json: eos_token_id is .*expec'):
            load_chat_format(tmp_path / str(bad))


@pytest.mark.parity
def test_generation_stops_at_the_first_of_several_ids_as_in_transformers(tmp_path):
    torch = pytest.importorskip('torch')
    from tests.models import reference as checkpoints

    theirs = checkpoints.make(tmp_path, 'llama', vocab_size=500)
    ours = models.load_model(str(tmp_path))
    prompt = np.arange(10, 30, dtype=np.int32)[None]
    free = np.asarray(ours.generate(prompt, max_new_tokens=24))[0]
    late, early = free[15], free[6]
    assert early not in free[:6] and late not in free[:6]
    write_ids(tmp_path, {'eos_token_id': [int(late), int(early)]}, {}, False)
    chat = load_chat_format(tmp_path)
    found = np.asarray(
        ours.generate(prompt, max_new_tokens=24, eos_ids=chat.stop_ids, pad_id=chat.pad_id)
    )[0]
    expected = theirs.generate(
        torch.tensor(prompt.astype(np.int64)), max_new_tokens=24, do_sample=False,
        eos_token_id=list(chat.stop_ids), pad_token_id=chat.pad_id,
    ).numpy()[0, 20:]  # fmt: skip
    np.testing.assert_array_equal(found[:7], free[:7])
    np.testing.assert_array_equal(found[:7], expected)
    assert (found[7:] == chat.pad_id).all() and len(expected) == 7


_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
_QWEN3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}"
    '{% endif %}'
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
OTHERS = {
    'gemma': (_GEMMA, '<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n',
              'a<end_of_turn>\n'),
    'mistral': (_MISTRAL, '<bos>[INST] q[/INST]', ' a<eos>'),
    'qwen3': (_QWEN3, '<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>'
              '\n\n', 'a<|im_end|>\n'),
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_templates_in_the_style_of_other_families(tmp_path, name):
    chat = load(tmp_path, 'qwen2')
    template, prompt, answer = OTHERS[name]
    chat.tokenizer.chat_template = template
    chat.tokenizer.bos_token, chat.tokenizer.eos_token = '<bos>', '<eos>'
    assert chat.prompt_text('q') == prompt
    assert chat.answer_text('q', 'a') == answer
    if name == 'gemma':
        with pytest.raises(ArgumentError, match='the chat template refuses it: System role not'):
            chat.encode_prompt('q', 'words')
    turns = [('user', 'q'), ('assistant', 'a'), ('user', 'r'), ('assistant', 'b')]
    messages = tuple({'role': role, 'content': text} for role, text in turns)
    if name == 'qwen3':  # which takes the thoughts out of earlier answers
        with pytest.raises(InputError, match='expected rows of one answer'):
            chat.encode_conversation(Conversation('rows:1', messages))
    else:
        assert chat.encode_conversation(Conversation('rows:1', messages)).is_target is not None
