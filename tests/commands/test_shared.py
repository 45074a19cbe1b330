"""Checks that several commands make."""

import pytest

from lorajax.commands import shared
from lorajax.errors import ArgumentError
from lorajax.experiment.config import Experiment


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
