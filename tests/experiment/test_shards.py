"""Shards cover all items once, evenly and in their order."""

import pytest

from lorajax.errors import ArgumentError
from lorajax.experiment.shards import WHOLE, Shard


@pytest.mark.parametrize('count', [0, 1, 5, 44])
@pytest.mark.parametrize('num_shards', [1, 2, 3, 7, 50])
def test_every_item_has_one_shard_and_none_has_two_more_than_another(count, num_shards):
    items = list(range(count))
    shares = [Shard(num_shards, index).share(items) for index in range(num_shards)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_whole_is_one_shard():
    assert WHOLE.is_whole and not Shard(2, 0).is_whole
    assert WHOLE.share('abc') == 'abc'


@pytest.mark.parametrize(('num_shards', 'shard_index'), [(0, 0), (2, 2), (2, -1)])
def test_shards_that_are_not_there_are_refused(num_shards, shard_index):
    with pytest.raises(ArgumentError):
        Shard(num_shards, shard_index)
