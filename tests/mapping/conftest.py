import pytest

from tests.mapping.worlds import make_world


@pytest.fixture
def world():
    """Source and target anchors, eight tasks."""
    return make_world()
