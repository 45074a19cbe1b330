"""Overlap: what counts as the same problem."""

import json

import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.tasks import overlap
from lorajax.tasks.task import Example, TaskData

LONG = 'one two three four five six seven eight nine ten eleven twelve thirteen fourteen'


def example(question: str, *ids: str, item: str = 'i', **meta) -> Example:
    return Example(item, 'prompt', 'a', meta.pop('reference', 'a'), ids, meta, question)


def test_normalise():
    assert overlap.normalise(' The  CAT’s ½ _price_, 1,000! ') == 'the cat s 1 2 price 1 000'
    assert overlap.normalise('?!') == ''


def test_text_ids_ignore_case_spaces_and_punctuation():
    assert overlap.text_id("What's 2 + 3 ?") == overlap.text_id('what s 2 3')
    assert overlap.text_id('a b') != overlap.text_id('a c')
    assert overlap.text_id('+++') != overlap.text_id('---')  # symbols stand for themselves


def test_problems_hold_what_shares_a_run_of_13_words():
    problems = overlap.Problems([example(LONG)])
    twelve = LONG.rpartition(' ')[0].rpartition(' ')[0]
    texts = ['x ' + LONG.upper(), twelve, f'{twelve}, Thirteen? x', f'x {twelve}', 'no']
    found = problems.holds([example(text) for text in texts])
    assert found.tolist() == [True, False, True, False, False]
    assert overlap.Problems([example(twelve)]).holds([example(LONG)]).tolist() == [False]
    assert problems.holds([]).tolist() == []


def test_runs_of_words_are_those_of_plain_python():
    rng = np.random.default_rng(0)
    questions = [' '.join(rng.choice(['a', 'b'], size=size)) for size in (9, 13, 14, 20) * 40]

    def runs(text):
        words = text.split()
        return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}

    train, held = questions[:80], questions[80:]
    evaluated = set().union(*map(runs, held))
    expected = sum(not runs(text).isdisjoint(evaluated) for text in train)
    data = {
        't': TaskData(tuple(map(example, train)), ()),
        'h': TaskData((), tuple(map(example, held))),
        'other': TaskData((), (example('short'),)),
    }
    found = overlap.matrix(data)['cells']['t']
    assert 0 < found['h']['ngram13'] == expected < 80 and found['other']['ngram13'] == 0


def test_the_prompt_stands_in_for_a_missing_question():
    assert overlap.question(Example('i', 'the prompt', 'a', 'a')) == 'the prompt'


def test_matrix_counts_training_examples():
    data = {
        'anchor': TaskData(
            train=(
                example('Nothing alike', 'p/1'),
                example('same TEXT'),
                example('and ' + LONG),
                example('free'),
            ),
            eval=(),
        ),
        'held': TaskData(
            train=(example('free'),),
            eval=(example('other words', 'p/1'), example('Same text!'), example(LONG + ' end')),
        ),
    }
    found = overlap.matrix(data)
    assert found['cells'] == {
        'anchor': {'held': {'id': 2, 'exact': 1, 'ngram13': 1}},
        'held': {'held': {'id': 0, 'exact': 0, 'ngram13': 0}},
    }
    assert found['train'] == {'anchor': 4, 'held': 1} and found['eval'] == {'held': 3}
    assert found['shared_training'] == {'anchor': {'held': 1}, 'held': {'anchor': 1}}
    assert found['labels_only_prior'] == {} and json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ('question', 'ids', 'measure'),
    [('x', ('p/1',), 'id 1'), ('Same text', (), 'exact 1'), (LONG + ' x', (), 'ngram13 1')],
)
def test_check_stops_at_any_measure(question, ids, measure):
    held = (example('y', 'p/1'), example('same text'), example('z ' + LONG))
    data = {'a': TaskData((example(question, *ids),), ()), 'h': TaskData((example('u'),), held)}
    with pytest.raises(InputError, match=r'training set of a overlaps.*of h') as error:
        overlap.check(overlap.matrix(data))
    assert measure in str(error.value) and '\n' not in str(error.value)
    overlap.check(overlap.matrix({'h': data['h']}))


def test_labels_only_prior():
    def items(letters: str) -> tuple[Example, ...]:
        return tuple(example('q', reference=x, choices=list('uvwx')) for x in letters)

    data = {'t': TaskData(items('AABBBC'), items('BBAC'))}
    assert overlap.matrix(data)['labels_only_prior'] == {
        't': {'letter': 'B', 'accuracy': 0.5, 'chance': 0.25, 'n': 4}
    }
