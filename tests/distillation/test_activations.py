"""Activations against transformers' own modules, and places that two tokenizers share."""

import pathlib

import numpy as np
import pytest

from lorajax import toy
from lorajax.distillation import activations
from lorajax.errors import InputError
from lorajax.models import load_model
from lorajax.tasks.chat import load_chat_format
from tests import tiny_models

TEXTS = ['one two three four', 'five six', 'seven eight nine ten eleven twelve thirteen']


@pytest.fixture(scope='module')
def chats(tmp_path_factory):
    """Two tokenizers that split text differently."""
    root = tmp_path_factory.mktemp('models')
    tiny_models.write(root / 'qwen', 'qwen2', TEXTS * 20)
    tiny_models.write(root / 'llama', 'llama', ['one one two ten seven'] * 20, num_hidden_layers=3)
    return {name: (root / name, load_chat_format(root / name)) for name in ('qwen', 'llama')}


def test_places_end_at_the_same_character(chats):
    pair = [activations.tokenize(chat, TEXTS[2], 99) for _, chat in chats.values()]
    left, right = activations.common_places(*pair)
    assert len(left) == len(right) > 3
    assert len(pair[0].ids) != len(pair[1].ids)  # else the test shows nothing
    assert (pair[0].ends[left] == pair[1].ends[right]).all()
    assert (np.diff(left) > 0).all() and pair[0].ends[left].min() > 0
    assert len(TEXTS[2]) in pair[0].ends[left]


def test_the_last_of_several_tokens_that_end_at_one_character_is_taken():
    left = activations.Tokens(np.arange(4), np.array([0, 1, 1, 3]))
    right = activations.Tokens(np.arange(3), np.array([1, 2, 3]))
    assert [list(x) for x in activations.common_places(left, right)] == [[2, 3], [0, 2]]


@pytest.mark.parity
@pytest.mark.parametrize('name', ['qwen', 'llama'])
def test_states_are_those_of_transformers(chats, name):
    torch = pytest.importorskip('torch')
    import transformers

    directory, chat = chats[name]
    tokens = [activations.tokenize(chat, text, 99) for text in TEXTS]
    places = [np.arange(len(t.ids)) for t in tokens]
    states = activations.collect(load_model(str(directory)), tokens, places)
    reference = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    seen = {}
    for path, module in reference.named_modules():
        if path.endswith('_proj'):
            module.register_forward_hook(
                lambda _, given, out, path=path: seen.setdefault(path, []).append((given[0], out))
            )
    with torch.no_grad():
        for text in tokens:
            reference(torch.tensor(text.ids[None].astype(np.int64)))
    assert len(seen) == 7 * len(reference.model.layers)
    for path, pairs in seen.items():
        layer, projection = int(path.split('.')[2]), path.split('.')[-1]
        for which, side in ((states.inputs, 0), (states.outputs, 1)):
            expected = np.concatenate([pair[side][0].numpy() for pair in pairs])
            actual = which[projection][layer]
            assert actual.shape == expected.shape
            assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max(), path


def test_more_texts_than_fit_one_batch_keep_their_order(chats):
    directory, chat = chats['qwen']
    model = load_model(str(directory))
    tokens = [activations.tokenize(chat, TEXTS[i % 3], 99) for i in range(35)]
    places = [np.array([len(t.ids) - 1]) for t in tokens]
    states = activations.collect(model, tokens, places, tokens_per_step=4 * 32)
    alone = activations.collect(model, tokens[33:34], places[33:34])
    assert states.inputs['q_proj'].shape[1] == 35
    np.testing.assert_allclose(
        states.inputs['down_proj'][:, 33], alone.inputs['down_proj'][:, 0], rtol=1e-4, atol=1e-6
    )


def test_shared_places_stop_at_the_count_and_refuse_texts_without_any(chats):
    pair = [chat for _, chat in chats.values()]
    tokens, places = activations.shared_places(pair, TEXTS, 99, 5)
    assert sum(map(len, places[0])) == sum(map(len, places[1])) == 5
    assert len(tokens[0]) == len(places[0])
    with pytest.raises(InputError, match='end no token at the same character'):
        activations.shared_places(pair, [''], 99, 5)


def test_toy_models_share_every_place():
    pair = [load_chat_format(pathlib.Path(toy.MODELS[f'toy-{s}'])) for s in ('source', 'target')]
    (tokens, _), (left, right) = activations.shared_places(pair, ['math ? ? md mb = me'], 99, 99)
    assert list(left[0]) == list(right[0]) == list(range(len(tokens[0].ids)))
