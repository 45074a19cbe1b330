"""The toy world is what it says, and its shipped models know it."""

import numpy as np
import pytest

from lorajax import models, toy
from lorajax.tasks.chat import load_chat_format
from lorajax.toy import language, tokenizer, world


def test_there_are_16_anchors_and_6_heldouts_two_of_each_domain():
    assert len(language.ANCHORS) == 16 and len(language.HELDOUTS) == 6
    assert not set(language.ANCHORS) & set(language.HELDOUTS)
    domains = [language.TASKS[name].domain for name in language.HELDOUTS]
    assert sorted(domains) == ['code', 'code', 'math', 'math', 'science', 'science']


def test_functions_do_what_their_names_say():
    symbols = np.array([1, 2, 3, 9])
    keep, reverse = world.Function('math', 'keep', 3), world.Function('math', 'reverse', 3)
    np.testing.assert_array_equal(keep.apply(symbols), [4, 5, 6, 2])
    np.testing.assert_array_equal(reverse.apply(symbols), [2, 6, 5, 4])


def test_no_evaluation_input_is_trained_on_in_any_task():
    pools = [task.pools(None, 'direct') for task in language.TASKS.values()]
    trained = {example.question for pool in pools for example in pool.train}
    assert not trained & {example.question for pool in pools for example in pool.eval}


def test_every_word_is_one_token_and_text_survives():
    for word in world.words():
        assert len(tokenizer.encode(f' {word}')) == 1
    chat = load_chat_format(toy.MODELS['toy-source'])
    example = language.TASKS['toy_code_keep_5'].pools(None, 'direct').eval[0]
    encoded = chat.encode(example)
    assert (len(encoded.prompt), len(encoded.answer)) == (8, 5)
    assert chat.decode(encoded.answer).strip() == example.answer
    assert encoded.prompt.tolist() == tokenizer.encode(example.prompt + ' =')


@pytest.mark.parametrize('side', ['toy-source', 'toy-target'])
def test_shipped_models_apply_every_function_whose_tags_they_see(side):
    model = models.load_model(str(toy.MODELS[side]))
    rng = np.random.default_rng(0)
    right, blind = [], []
    for function in world.DEFAULT.functions:
        symbols = rng.integers(10, size=(8, 4))
        answers = [tokenizer.encode(' ' + ' '.join(function.words(function.apply(s))))
                   for s in symbols]  # fmt: skip
        for knows, found in ((True, right), (False, blind)):
            prompts = [tokenizer.encode(function.prompt(s, knows, knows) + ' =') for s in symbols]
            output = np.asarray(model.generate(np.array(prompts, np.int32), max_new_tokens=4))
            found += (output == np.array(answers)).all(-1).tolist()
    assert np.mean(right) >= 0.99
    assert np.mean(blind) <= 0.15  # one function of eight is the best guess


def test_checkpoints_together_stay_under_4_mb():
    files = [path for path in toy.CHECKPOINTS.rglob('*') if path.is_file()]
    assert files and sum(path.stat().st_size for path in files) < 4_000_000
