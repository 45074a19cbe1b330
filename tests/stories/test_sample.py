"""Stories that a model tells: sampled from the beginning of text, the same for the same key."""

import jax
import pytest

from lorajax import io, models
from lorajax.errors import InputError
from lorajax.stories import sample
from lorajax.tasks import chat
from tests import tiny_models


@pytest.fixture(scope='module')
def teller(tmp_path_factory):
    directory = tiny_models.write(
        tmp_path_factory.mktemp('teller') / 'model', 'llama', ['some text', 'more of it']
    )
    return models.load_model(str(directory)), chat.load_chat_format(directory)


def test_a_tokenizer_without_a_beginning_of_text_is_refused(teller):
    model, chat_format = teller
    assert chat_format.tokenizer.bos_token_id is None
    with pytest.raises(InputError, match='no token for the beginning of text'):
        sample.tell(model, chat_format, 3, 8, jax.random.key(0))


def test_stories_are_as_many_as_asked_and_depend_on_the_key(teller, monkeypatch):
    model, chat_format = teller
    chat_format.tokenizer.bos_token = '<|begin_of_text|>'
    monkeypatch.setattr(sample, '_AT_ONCE', 2)
    told = [sample.tell(model, chat_format, 3, 8, jax.random.key(seed)) for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]
    assert len(told[0]) == 3
    assert len(set(told[0])) == 3  # the second call of the model goes on with the key
    assert all(text == ' '.join(text.split()) for text in told[0])


def test_texts_that_a_tokenizer_cannot_write_are_known(teller):
    _, chat_format = teller
    assert sample.can_write(chat_format, 'some text, ñ')
    assert not sample.can_write(chat_format, 'ends <|eot_id|> here')


def test_stories_are_rows_of_two_splits_without_repeats(tmp_path):
    sample.write(tmp_path, [f'story {i % 20}' for i in range(40)])
    test, train = (
        [row['story'] for _, row in io.read_numbered_jsonl(tmp_path / 'stories' / f'{split}.jsonl')]
        for split in ('test', 'train')
    )
    assert (len(test), len(train)) == (6, 14)
    assert sorted(test + train) == sorted({f'story {i}' for i in range(20)})
