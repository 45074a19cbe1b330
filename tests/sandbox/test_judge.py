"""The process that compares: what its tests meet, and what they cannot be talked into."""

import numpy as np
import pytest

from lorajax.sandbox import judge, protocol, runner
from lorajax.sandbox.runner import Program


def test_errors_of_a_program_are_ordinary_exceptions_and_timeouts_are_not():
    assert issubclass(judge.ProgramError, Exception)
    assert not issubclass(judge.Timeout, Exception)


@pytest.mark.parametrize(
    ('action', 'reason'),
    [
        (lambda: None, None),
        (lambda: 1 / 0, 'ZeroDivisionError: division by zero'),
        (
            lambda: exec('assert False, 10**5000'),
            'assertion: (its text cannot be made: ValueError)',
        ),
        (lambda: exec("assert False, '\\ud800'"), 'assertion: \\ud800'),
        (lambda: exec('raise EOFError'), 'exit: the program ended its process'),
        (lambda: exec('raise SystemExit(0)'), 'SystemExit: 0'),
    ],
)
def test_reasons(action, reason):
    assert judge._reason(action, 5.0) == reason


def test_reasons_of_a_program_are_errors():
    def fail():
        raise judge.ProgramError('ValueError: 3')

    assert judge._reason(fail, 5.0) == 'error: ValueError: 3'


def test_a_remote_object_is_equal_to_itself_alone():
    remote, other = (judge._Remote(None, {'type': 'P', 'true': True, 'id': 0}) for _ in range(2))
    assert remote != other and remote == remote and bool(remote)
    assert repr(remote) == '<P of the program>'
    with pytest.raises(AttributeError):
        remote.__len_hint__  # noqa: B018 dunder names are not asked for


def test_what_may_be_passed_to_the_program():
    link = judge._Worker(0, 0)
    assert link._handle_of(int) == {'type': 'int'}
    remote = judge._Remote(link, {'id': 3})
    assert link._handle_of(remote) == {'id': 3}
    with pytest.raises(TypeError, match='function cannot be passed'):
        link._handle_of(test_reasons)
    with pytest.raises(protocol.ProtocolError):
        link._remote('no handle')


def test_comparisons_of_numpy_compare_shapes_and_else_are_numpys(monkeypatch):
    for name in ('allclose', 'array_equiv', 'isclose'):
        monkeypatch.setattr(np, name, getattr(np, name))
    theirs = np.allclose, np.array_equiv, np.isclose
    judge._harden_numpy()
    rng = np.random.default_rng(0)
    for shape in ((), (3,), (2, 3)):
        a = rng.normal(size=shape)
        for b in (a, a + 1e-9, a + 1):
            assert np.allclose(a, b) == theirs[0](a, b)
            assert np.array_equiv(a, b) == theirs[1](a, b)
            np.testing.assert_array_equal(np.isclose(a, b), theirs[2](a, b))
    for a, b in (([], 1.5), ([1.5], 1.5), ([[1.5]], [1.5]), ([], [1.5])):
        assert not np.allclose(a, b) and not np.array_equiv(a, b) and not np.isclose(a, b).all()


def test_two_items_in_a_row_see_nothing_of_each_other():
    programs = [
        Program('x = 5\ndef f():\n    return x', ('f', 'x'), (('a', 'y = 3\nassert f() == 5'),)),
        Program('def f():\n    return 1', ('f',), (('a', "assert 'x' not in globals()\ny"),)),
    ]
    first, second = runner.run_programs(programs, workers=1)
    assert first.passed('a') and second.failures['a'] == "NameError: name 'y' is not defined"
