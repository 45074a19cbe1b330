"""The table of families agrees with the configurations of transformers."""

import dataclasses

import pytest

from lorajax.models import presets
from lorajax.models.config import ModelConfig
from lorajax.models.families import FAMILIES


@pytest.mark.parametrize('name', FAMILIES)
def test_a_family_fixes_fields_that_there_are(name):
    assert FAMILIES[name].traits.keys() <= {field.name for field in dataclasses.fields(ModelConfig)}


@pytest.mark.parity
@pytest.mark.parametrize('name', FAMILIES)
def test_what_is_taken_for_an_absent_field_is_what_transformers_takes(name):
    transformers = pytest.importorskip('transformers')
    theirs = transformers.AutoConfig.for_model(name)
    for field, value in FAMILIES[name].defaults.items():
        if field == 'rope_theta':
            assert theirs.rope_parameters['full_attention']['rope_theta'] == value
        else:
            assert getattr(theirs, field) == value, field


def test_every_family_has_a_tiny_preset():
    assert presets.TINY.keys() == FAMILIES.keys()


@pytest.mark.parity
def test_architectures_are_those_that_transformers_loads():
    transformers = pytest.importorskip('transformers')
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert {name: names[name] for name in FAMILIES} == {
        name: family.architecture for name, family in FAMILIES.items()
    }
