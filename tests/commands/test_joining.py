"""Who works together, and what the parent of each says about the end."""

import signal

import pytest

from lorajax import processes
from lorajax.commands import joining, parse
from lorajax.commands.joining import Flags, Joint, joint
from lorajax.errors import ArgumentError


def test_a_process_is_alone_unless_something_says_otherwise():
    assert joint(Flags(), {}) is None
    assert joint(Flags(num_processes=1), {'TPU_WORKER_HOSTNAMES': 'a,b'}) is None
    assert joint(Flags(), {'SLURM_NTASKS': '4'}) is None  # a batch script, not below srun


def test_what_trains_or_evaluates_can_be_done_by_several_processes():
    for name in ('run', 'train', 'distill', 'evaluate'):
        assert issubclass(parse.command_named(name).flags, joining.Flags), name


def test_flags_say_with_whom():
    flags = Flags(coordinator_address='a:1', num_processes=2, process_id=0)
    assert joint(flags, {}) == Joint('a:1', 2, 0)
    assert joint(Flags(num_processes=2), {}) == Joint(None, 2, None)


@pytest.mark.parametrize(
    ('environment', 'is_joint'),
    [
        ({'SLURM_STEP_NODELIST': 'n[1-2]', 'SLURM_NTASKS': '2'}, True),
        ({'SLURM_STEP_NODELIST': 'n1', 'SLURM_NTASKS': '1'}, False),
        ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
        ({'TPU_WORKER_HOSTNAMES': 'a,b', 'TPU_PROCESS_BOUNDS': '1,1,1'}, False),
        ({'TPU_WORKER_HOSTNAMES': 'a'}, False),
    ],
)
def test_the_environment_says_with_whom(environment, is_joint):
    assert joint(Flags(), environment) == (Joint(None, None, None) if is_joint else None)
    assert joint(Flags(), environment, is_divided=True) is None


@pytest.mark.parametrize(
    ('flags', 'is_divided', 'argument'),
    [
        (Flags(process_id=0), False, 'num_processes'),
        (Flags(coordinator_address='a:1'), False, 'num_processes'),
        (Flags(num_processes=2, process_id=2), False, 'process_id'),
        (Flags(num_processes=2), True, 'num_shards'),
    ],
)
def test_contradictions_are_refused(flags, is_divided, argument):
    with pytest.raises(ArgumentError) as caught:
        joint(flags, {}, is_divided)
    assert caught.value.argument == argument


class FakeChild:
    """A child that gets a signal while it is waited for, and ends with a status."""

    def __init__(self, status, number=None):
        self.status, self.number, self.sent = status, number, []

    def __call__(self, command, env, start_new_session):
        self.command, self.env = command, env
        assert start_new_session
        return self

    def send_signal(self, number):
        self.sent.append(number)

    def wait(self):
        if self.number:
            signal.raise_signal(self.number)
        return self.status


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ('child', 'status', 'said'),
    [
        (FakeChild(0), 0, ''),
        (FakeChild(2), 2, ''),
        (FakeChild(processes.LOST), processes.LOST, 'is gone or out of reach'),
        (FakeChild(-signal.SIGABRT), processes.LOST, 'is gone or out of reach'),
        (FakeChild(-signal.SIGKILL), 137, 'ended by SIGKILL'),
        (FakeChild(143, signal.SIGTERM), 143, ''),
        (FakeChild(-signal.SIGABRT, signal.SIGTERM), 143, 'ended by SIGTERM'),
    ],
)
def test_the_parent_says_how_it_ended(handlers, monkeypatch, capsys, child, status, said):
    monkeypatch.setattr(joining.subprocess, 'Popen', child)
    assert joining.supervise(['run', '--num_processes=2']) == status
    heard = capsys.readouterr().err
    assert said in heard and len(heard.splitlines()) == bool(said)
    assert child.command[-2:] == ['run', '--num_processes=2'] and joining.is_child(child.env)
    assert child.sent == ([child.number] if child.number else [])
