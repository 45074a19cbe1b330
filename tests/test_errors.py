"""Errors are one line; that of an argument keeps its parts for the layer that knows flags."""

import signal

import pytest

from lorajax.errors import ArgumentError, InputError, Interrupted


def test_an_argument_error_says_what_was_given_and_what_was_expected():
    error = ArgumentError('batch_size', 0, 'expected at least 1')
    assert str(error) == 'batch_size 0: expected at least 1'
    assert (error.argument, error.value, error.problem) == ('batch_size', 0, 'expected at least 1')
    assert isinstance(error, InputError) and isinstance(error, ValueError)


def test_without_a_value_the_problem_says_it_all():
    assert str(ArgumentError('prompt', None, 'is missing')) == 'prompt: is missing'
    assert str(ArgumentError('prompt', '', 'is missing')) == 'prompt : is missing'


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_has_the_status_that_schedulers_know(number, status):
    error = Interrupted(number)
    assert error.status == status and str(error) == number.name
    assert isinstance(error, KeyboardInterrupt) and not isinstance(error, Exception)
