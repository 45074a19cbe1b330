"""Models out of files; that their logits are right is tested in `test_model.py`."""

import pytest

from lorajax import models
from lorajax.errors import ArgumentError


@pytest.mark.parametrize('argument', ['param_dtype', 'dtype'])
@pytest.mark.parametrize('name', ['int8', 'float99'])
def test_a_dtype_without_floats_is_refused(tmp_path, argument, name):
    with pytest.raises(ArgumentError) as error:
        models.load_model(str(tmp_path), **{argument: name})
    assert (error.value.argument, error.value.value) == (argument, name)
