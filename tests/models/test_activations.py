"""Activations against transformers' own modules."""

import numpy as np
import pytest

from lorajax.models import activations, load_model
from tests.models import reference


@pytest.fixture(scope='module')
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp('models')
    for family in ('qwen2', 'llama'):
        (root / family).mkdir()
        reference.make(root / family, family, num_hidden_layers=2)
    return root


def make_texts(count):
    """Token ids of uneven lengths."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, 101, 3 + 4 * (i % 3)).astype(np.int32) for i in range(count)]


@pytest.mark.parity
@pytest.mark.parametrize('family', ['qwen2', 'llama'])
def test_states_are_those_of_transformers(directories, family):
    torch = pytest.importorskip('torch')
    import transformers

    directory = directories / family
    texts = make_texts(3)
    positions = [np.arange(len(text)) for text in texts]
    states = activations.collect(load_model(str(directory)), texts, positions)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    seen = {}
    for path, module in theirs.named_modules():
        if path.endswith('_proj'):
            module.register_forward_hook(
                lambda _, inputs, out, path=path: seen.setdefault(path, []).append((inputs[0], out))
            )
    with torch.no_grad():
        for text in texts:
            theirs(torch.tensor(text[None].astype(np.int64)))
    assert len(seen) == 7 * len(theirs.model.layers)
    for path, pairs in seen.items():
        layer, projection = int(path.split('.')[2]), path.split('.')[-1]
        for which, side in ((states.inputs, 0), (states.outputs, 1)):
            expected = np.concatenate([pair[side][0].numpy() for pair in pairs])
            actual = which[projection][layer]
            assert actual.shape == expected.shape
            # float32 through two layers, by norm; seen on AMD EPYC: below 1e-6.
            assert np.linalg.norm(actual - expected) <= 1e-5 * np.linalg.norm(expected), path


def test_more_texts_than_fit_one_batch_keep_their_order(directories):
    model = load_model(str(directories / 'qwen2'))
    texts = make_texts(35)
    positions = [np.array([len(text) - 1]) for text in texts]
    states = activations.collect(model, texts, positions, tokens_per_step=4 * 11)
    alone = activations.collect(model, texts[33:34], positions[33:34])
    assert states.inputs['q_proj'].shape[1] == 35
    actual, expected = (s.inputs['down_proj'] for s in (states, alone))
    # Sums of float32 in another order.
    assert np.linalg.norm(actual[:, 33] - expected[:, 0]) <= 1e-5 * np.linalg.norm(expected)
