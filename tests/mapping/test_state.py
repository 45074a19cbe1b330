import pytest

from lorajax.mapping.state import MappingState, require


def test_parts_that_a_method_does_not_store_are_missed_loudly():
    state = MappingState([('q_proj', 0)], {}, {})
    assert state.per_tensor == [] and state.source is None
    with pytest.raises(TypeError, match='fitted by another method'):
        require(state.frame)
    assert require(state.tensors) is state.tensors
