"""The tasks of the toy world."""

from lorajax.tasks import scoring
from lorajax.toy import language, world


def test_there_are_16_anchors_and_6_heldouts_two_of_each_domain():
    assert len(language.ANCHORS) == 16 and len(language.HELDOUTS) == 6
    assert not set(language.ANCHORS) & set(language.HELDOUTS)
    domains = [language.TASKS[name].domain for name in language.HELDOUTS]
    assert sorted(domains) == ['code', 'code', 'math', 'math', 'science', 'science']


def test_no_evaluation_input_is_trained_on_in_any_task():
    pools = [task.pools(None, 'direct') for task in language.TASKS.values()]
    trained = {example.question for pool in pools for example in pool.train}
    assert not trained & {example.question for pool in pools for example in pool.eval}


def test_examples_are_what_the_function_of_the_task_does():
    task = language.TASKS['toy_science_reverse_3']
    pools = task.pools(None, 'direct')
    assert (len(pools.train), len(pools.eval)) == (language.NUM_TRAIN, language.NUM_EVAL)
    assert task.role in ('anchor', 'heldout') and task.domain == 'science'
    for example in (*pools.train[:20], *pools.eval[:20]):
        symbols = [world.LETTERS.index(word[1]) for word in example.question.split()]
        shifted = [(symbol + 3) % 10 for symbol in reversed(symbols)]
        assert example.answer == ' '.join('s' + world.LETTERS[symbol] for symbol in shifted)
        assert example.prompt == f'science ? ? {example.question}'
        assert scoring.score(task.scorer, example, example.answer).correct
        assert not scoring.score(task.scorer, example, example.question).correct
        assert example.problem_ids == (f'toy/{example.question}',)


def test_every_shift_of_every_world_has_a_task():
    assert len(language.TASKS) == 3 * 2 * 9
    assert {task.role for task in language.TASKS.values()} == {'anchor', 'heldout'}
    assert {name for name, task in language.TASKS.items() if task.role == 'heldout'} == set(
        language.HELDOUTS
    )
