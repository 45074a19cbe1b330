import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.mapping import gram
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.queries import Queries
from tests.mapping.worlds import dense, flat


def test_products_equal_those_of_dense_vectors(world):
    anchors = Anchors(world[0], 'source')
    queries = Queries({task: world[0][task] for task in ('task6', 'task2')})
    for space, vector in (('delta', dense), ('factor', flat)):
        cross, own = queries.products(anchors, space)
        rows = np.stack([vector(world[0][task]) for task in anchors.tasks])
        both = np.stack([vector(world[0][task]) for task in queries.names])
        np.testing.assert_allclose(cross.sum(1), both @ rows.T, rtol=1e-4)
        np.testing.assert_allclose(own.sum(1), np.sum(both**2, axis=1), rtol=1e-5)


def test_queries_of_different_ranks_stand_together(world):
    anchors = Anchors(world[0], 'source')
    narrow = {
        'layers': {
            p: {'a': f['a'][..., :1], 'b': f['b'][:, :1]}
            for p, f in world[0]['task0']['layers'].items()
        }
    }
    both = Queries({'narrow': narrow, 'wide': world[0]['task1']})
    for task, tree in (('narrow', narrow), ('wide', world[0]['task1'])):
        index = both.names.index(task)
        alone = Queries({task: tree})
        for ours, theirs in zip(
            both.products(anchors, 'delta'), alone.products(anchors, 'delta'), strict=True
        ):
            np.testing.assert_allclose(ours[index], theirs[0], rtol=1e-5, atol=1e-6)
        ours, theirs = both.cosines(anchors)[0][index], alone.cosines(anchors)[0][0]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_products_are_computed_once_for_several_mappings(world, monkeypatch):
    anchors = [Anchors(side, name) for side, name in zip(world, ('source', 'target'), strict=True)]
    queries = Queries({'one': world[0]['task1']})
    first = mapping.fit('delta_ridge', *anchors).explain_many(queries)['one'].adapter

    def refuse(*_):
        raise AssertionError('computed again')

    monkeypatch.setattr(gram, 'cross_products', refuse)
    again = mapping.fit('delta_ridge', *anchors).explain_many(queries)['one'].adapter
    np.testing.assert_array_equal(flat(first), flat(again))
    with pytest.raises(AssertionError, match='computed again'):
        queries.products(Anchors(world[0], 'other'), 'delta')


def test_bad_queries_are_named(world):
    anchors = Anchors(world[0], 'source')
    with pytest.raises(InputError, match='no adapters to translate'):
        Queries({})
    with pytest.raises(InputError, match='query mine: expected an adapter tree'):
        Queries({'mine': {}})
    bad = {
        p: {k: leaf.copy() for k, leaf in f.items()} for p, f in world[0]['task0']['layers'].items()
    }
    bad['v_proj']['b'][2] = np.nan
    queries = Queries({'good': world[0]['task1'], 'bad': {'layers': bad}})
    queries.check(anchors.shapes, any_rank=False)
    for read in (lambda: queries.products(anchors, 'delta'), lambda: queries.cosines(anchors)):
        with pytest.raises(InputError, match='query bad: v_proj layer 2 holds NaN'):
            read()
