import pytest

from lorajax.errors import InputError
from lorajax.mapping.state import MappingState, require


def test_parts_that_a_method_does_not_store_are_missed_loudly():
    state = MappingState([('q_proj', 0)], {}, {})
    assert state.per_tensor == [] and state.source is None
    with pytest.raises(InputError, match='lacks a part that its method keeps'):
        require(state.frame)
    assert require(state.tensors) is state.tensors
