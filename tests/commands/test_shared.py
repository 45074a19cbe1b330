"""Checks that several commands make."""

import pytest

from lorajax import toy
from lorajax.commands import shared
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment.config import Experiment
from lorajax.models import config as config_lib
from tests.commands import toy_adapters


def test_an_output_must_be_absent_or_an_empty_directory(tmp_path):
    assert shared.new_directory(str(tmp_path / 'new')) == tmp_path / 'new'
    assert shared.new_directory(str(tmp_path)) == tmp_path
    (tmp_path / 'file').write_text('')
    for taken in (tmp_path, tmp_path / 'file'):
        with pytest.raises(ArgumentError, match=f'output {taken}: exists already'):
            shared.new_directory(str(taken))


def test_a_limit_of_decoding_must_be_given():
    assert shared.decode_limit(Experiment(max_new_tokens=3)) == 3
    with pytest.raises(ArgumentError, match='max_new_tokens 0: expected at least 1'):
        shared.decode_limit(Experiment(max_new_tokens=0))


def test_another_base_is_named(tmp_path, caplog):
    config = config_lib.read(toy.MODELS['toy-target'])
    for base, warned in (('runs/x/models/target', False), ('google/gemma-3-1b-it', True)):
        caplog.clear()
        toy_adapters.write(tmp_path / 'adapter', 'target', 1, base)
        assert shared.load_adapter(str(tmp_path / 'adapter'), config, 'toy-target')['layers']
        assert (
            f'names {base} as its base; taken as an adapter of toy-target' in caplog.text
        ) == warned
    toy_adapters.write(tmp_path / 'foreign', 'source', 1, 'google/gemma-3-1b-it')
    with pytest.raises(
        InputError, match=r'has layer 3.*; it names google/gemma-3-1b-it as its base'
    ):
        shared.load_adapter(str(tmp_path / 'foreign'), config, 'toy-target')
