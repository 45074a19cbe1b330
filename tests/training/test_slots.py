"""Places of adapters: none idles while another waits, and nobody is trained twice."""

import numpy as np
import pytest

from lorajax.training.slots import assign


@pytest.mark.parametrize('count', [0, 5, 9])
def test_with_room_for_all_each_has_the_place_of_its_number(count):
    slots = assign(np.array([3, 1, 4, 1, 5]), count)
    assert slots.slot.tolist() == [0, 1, 2, 3, 4] and not slots.first.any()
    assert slots.occupants.shape == (5, 5)
    assert slots.occupants[0].tolist() == [0, 1, 2, 3, 4]
    assert slots.occupants[3].tolist() == [-1, -1, 2, -1, 4]
    assert slots.arrivals(0) == [0, 1, 2, 3, 4] and slots.arrivals(1) == []


def test_every_adapter_is_trained_once_without_a_gap_and_the_places_end_together():
    num_steps = np.random.default_rng(0).integers(1, 40, 30)
    slots = assign(num_steps, 4)
    for adapter, count in enumerate(num_steps):
        steps, places = np.nonzero(slots.occupants == adapter)
        assert set(places) == {slots.slot[adapter]}
        first = slots.first[adapter]
        assert steps.tolist() == list(range(first, first + count))
    idle = (slots.occupants < 0).sum()
    assert idle <= 0.05 * slots.occupants.size
    assert sorted(a for step in range(len(slots.occupants)) for a in slots.arrivals(step)) == list(
        range(30)
    )


def test_the_holder_of_a_place_is_who_began_there_last():
    slots = assign(np.array([5, 3, 2]), 2)  # the third follows the second
    assert slots.slot.tolist() == [0, 1, 1] and slots.first.tolist() == [0, 0, 3]
    assert slots.holder(1, 3) == 1 and slots.holder(1, 4) == slots.holder(1, 9) == 2
    assert slots.holder(0, 9) == 0 and slots.holder(1, 0) is None
