"""Flips are counted against the source with its adapter, over items that both sides answered."""

import pytest

from lorajax.evaluation import source_side


def table(**answers):
    return {
        method: {item: {'correct': right == '1'} for item, right in zip('abcd', row, strict=False)}
        for method, row in answers.items()
    }


def test_accuracies_and_flips_of_a_held_out():
    main = {'t': table(base='0000', mapped='1100', oracle='1111'), 'u': table(base='0')}
    source = {'t': table(base='1000', oracle='1010')}
    found = source_side.summary(main, source, ['mapped', 'absent', 'oracle'])
    assert found['run'] and list(found['tasks']) == ['t']
    assert found['tasks']['t'] == {
        'n': 4, 'base': 0.25, 'adapter': 0.5,
        'flips': {
            'mapped': {'negative': 0.25, 'positive': 0.25},
            'oracle': {'negative': 0.0, 'positive': 0.5},
        },
    }  # fmt: skip


def test_items_of_one_side_alone_do_not_count():
    main = {'t': table(base='00', mapped='10')}
    found = source_side.summary(main, {'t': table(base='1111', oracle='1111')}, ['mapped'])
    assert found['tasks']['t']['n'] == 2
    assert found['tasks']['t']['flips']['mapped'] == {'negative': 0.5, 'positive': 0.0}


@pytest.mark.parametrize('source', [{}, {'t': {}}, {'t': table(base='00')}])
def test_without_the_source_there_is_nothing_to_say(source):
    found = source_side.summary({'t': table(base='00')}, source, ['mapped'])
    assert found == {'run': False, 'tasks': {}}
