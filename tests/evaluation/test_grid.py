"""Lanes of a grid take prompts in turn, and groups take adapters."""

import numpy as np

from lorajax.evaluation.grid import Grid, split_by_length


def test_prompts_share_a_cache_until_they_need_half_of_it():
    lengths = [5, 90, 30, 33, 100, 7]
    assert split_by_length(lengths, lanes=2) == [[4, 1, 3, 2, 5, 0]]
    many = [100] * 8 + [70] * 2 + [40] * 3  # of 128, 96 and 48 slots
    groups = split_by_length(many, lanes=2)
    assert groups == [list(range(10)), [10, 11, 12]]


def test_a_group_waits_until_a_share_of_its_lanes_is_free():
    grid = Grid.start(2, lanes=4, refill=2, items=range(5))
    grid.fill()
    assert grid.items.tolist() == [[0, 1, 2, 3]] * 2 and grid.num_waiting() == 2
    assert grid.thresholds().tolist() == [2, 2]
    done = np.zeros((2, 4), bool)
    done[0, 1] = True
    assert grid.finish(done) == [(0, 1, 0, 1)]
    assert not list(grid.refills())
    done[0, 3] = done[1, :] = True
    assert grid.finish(done) == [(0, 3, 0, 3), *((1, lane, 1, lane) for lane in range(4))]
    taken = [(group, lanes.tolist()) for group, lanes in grid.refills()]
    assert taken == [(0, [1]), (1, [0])]
    assert grid.items.tolist() == [[0, 4, 2, -1], [4, -1, -1, -1]]
    assert grid.thresholds().tolist() == [5, 5]  # nobody waits: to the end


def test_a_free_group_takes_the_adapter_with_most_to_do():
    grid = Grid.start(2, lanes=2, refill=1, items=range(5))
    grid.fill()
    grid.waiting[1].clear()
    assert grid.thresholds().tolist() == [1, 2]
    done = np.array([[False, False], [True, True]])
    grid.finish(done)
    assert [(group, lanes.tolist()) for group, lanes in grid.refills()] == [(1, [0]), (1, [1])]
    assert grid.adapters.tolist() == [0, 0] and grid.items.tolist() == [[0, 1], [2, 3]]


def test_groups_take_prompts_together_where_one_of_them_has_room():
    grid = Grid.start(2, lanes=3, refill=2, items=range(5))
    grid.fill()
    done = np.zeros((2, 3), bool)
    done[0, 1] = True
    grid.finish(done)
    assert grid.refill_together() is None
    done[0, 2] = done[1, 0] = True
    grid.finish(done)
    # Two lanes of the first group; one of the second, and a lane that there is none of.
    assert grid.refill_together().tolist() == [[1, 2], [0, 3]]
    assert grid.items.tolist() == [[0, 3, 4], [3, 1, 2]]
