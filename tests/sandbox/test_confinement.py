"""What a process gives up: the filter, and the refusal where the kernel offers too little."""

import subprocess
import sys

import pytest

from lorajax.sandbox import confinement


def test_filters_of_both_architectures_are_well_formed():
    for machine in ('x86_64', 'aarch64'):
        program = confinement.seccomp_program(machine)
        assert len(program) % 8 == 0 and len(program) // 8 < 4096
        instructions = [program[i : i + 8] for i in range(0, len(program), 8)]
        for place, code in enumerate(instructions):
            if code[0] in (0x15, 0x45):  # every jump lands inside the program
                assert place + 1 + max(code[2], code[3]) < len(instructions)
    with pytest.raises(OSError, match='riscv64'):
        confinement.seccomp_program('riscv64')


def lock_with(landlock: int, is_apart: bool) -> subprocess.CompletedProcess:
    """Locks a process on a kernel that is said to offer this much, and tries to read `environ`."""
    script = (
        'import os, sys\n'
        'from lorajax.sandbox import confinement\n'
        'real = confinement._drop_identity\n'
        f'confinement._landlock = lambda libc, readable: {landlock}\n'
        'confinement._drop_identity = lambda libc, readable: confinement.Identity('
        f"'user', 'network', {is_apart})\n"
        "confinement.lock(['/usr'], 4096, None)\n"
        "sys.stdout.write(open(f'/proc/{os.getppid()}/environ').read())\n"
    )
    return subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_kernel_without_landlock_and_namespaces_is_refused(monkeypatch):
    monkeypatch.setenv('SECRET_OF_THE_USER', 'x')
    done = lock_with(landlock=0, is_apart=False)
    assert done.returncode == 1 and done.stdout == ''
    assert 'the kernel has no Landlock and grants no user namespace' in done.stderr


@pytest.mark.parametrize(('landlock', 'is_apart'), [(1, False), (0, True)])
def test_one_of_the_two_is_enough(landlock, is_apart):
    done = lock_with(landlock, is_apart)
    assert 'grants no user namespace' not in done.stderr


def test_directories_closed_to_others_are_seen(tmp_path):
    (tmp_path / 'open').mkdir(mode=0o755)
    (tmp_path / 'closed').mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    parents_are_open = confinement._open_to_others([str(tmp_path)])
    assert confinement._open_to_others([str(tmp_path / 'open')]) == parents_are_open
    assert not confinement._open_to_others([str(tmp_path / 'closed')])
    assert not confinement._open_to_others([str(tmp_path / 'closed' / 'inner')])
