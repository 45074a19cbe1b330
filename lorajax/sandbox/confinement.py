"""What a process gives up before it runs code that nobody has read.

`lock` is called by a fresh interpreter on itself and cannot be undone. Four layers, each of
the kernel, none needing privileges:

- seccomp: a list of the system calls that a single-threaded computation needs; everything
  else fails with EPERM. No socket, no new process or thread, no signal to anyone, no ptrace,
  no ioctl, and files open for reading only, so nothing on disk can be made, changed, renamed
  or removed. Mandatory: without it `lock` raises.
- Landlock (Linux 5.13): of the file system only the Python installation, the system's
  libraries and numpy can be read. Where the kernel lacks it, files that the user may read
  stay readable, and `lock` says so. `stat` is not covered: that a file exists, its size and
  times can be seen.
- limits on address space, processor time, open files, processes, core dumps.
- identity: capabilities are dropped, and root becomes nobody (or the only user of an own user
  namespace, where the interpreter lies in a directory closed to nobody); empty network and
  IPC namespaces where the kernel grants them. Without a change of user or namespace, and
  without Landlock, `lock` raises: the memory of other processes of the user would be open.

Not covered: side channels, exhaustion of CPU within the time limit, flaws of the kernel.

Source: prctl(2), seccomp(2), landlock(7), capabilities(7); numbers from asm/unistd_64.h and
asm-generic/unistd.h.
"""

import ctypes
import importlib.machinery
import importlib.util
import os
import platform
import resource
import struct
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

# name: (x86_64, aarch64); None where an architecture lacks the call
_CALLS: dict[str, tuple[int, int | None]] = {
    # input and output on descriptors that are already open
    'read': (0, 63), 'write': (1, 64), 'readv': (19, 65), 'writev': (20, 66),
    'pread64': (17, 67), 'close': (3, 57), 'close_range': (436, 436), 'lseek': (8, 62),
    'dup': (32, 23), 'dup2': (33, None), 'dup3': (292, 24), 'recvmsg': (47, 212),
    'poll': (7, None), 'ppoll': (271, 73), 'select': (23, None), 'pselect6': (270, 72),
    'fadvise64': (221, 223),
    # looking at files
    'fstat': (5, 80), 'newfstatat': (262, 79), 'statx': (332, 291), 'stat': (4, None),
    'lstat': (6, None), 'access': (21, None), 'faccessat': (269, 48), 'faccessat2': (439, 439),
    'getdents64': (217, 61), 'getcwd': (79, 17), 'readlink': (89, None), 'readlinkat': (267, 78),
    # memory, time, randomness
    'mmap': (9, 222), 'mprotect': (10, 226), 'munmap': (11, 215), 'mremap': (25, 216),
    'madvise': (28, 233), 'brk': (12, 214), 'time': (201, None), 'gettimeofday': (96, 169),
    'clock_gettime': (228, 113), 'clock_getres': (229, 114), 'clock_nanosleep': (230, 115),
    'nanosleep': (35, 101), 'times': (100, 153), 'getrusage': (98, 165), 'getrandom': (318, 278),
    'setitimer': (38, 103), 'getitimer': (36, 102), 'alarm': (37, None),
    # about oneself
    'getpid': (39, 172), 'getppid': (110, 173), 'gettid': (186, 178), 'getuid': (102, 174),
    'geteuid': (107, 175), 'getgid': (104, 176), 'getegid': (108, 177), 'getgroups': (115, 158),
    'getpgid': (121, 155), 'getpgrp': (111, None), 'getsid': (124, 156), 'uname': (63, 160),
    'sysinfo': (99, 179), 'sched_getaffinity': (204, 123), 'getcpu': (309, 168),
    'getrlimit': (97, 163), 'rt_sigaction': (13, 134), 'rt_sigprocmask': (14, 135),
    'rt_sigreturn': (15, 139), 'sigaltstack': (131, 132), 'restart_syscall': (219, 128),
    'futex': (202, 98), 'sched_yield': (24, 124), 'membarrier': (324, 283),
    'set_tid_address': (218, 96), 'set_robust_list': (273, 99), 'rseq': (334, 293),
    'arch_prctl': (158, None), 'exit': (60, 93), 'exit_group': (231, 94),
}  # fmt: skip

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ANY = 0xFFFFFFFF

# Allowed if none of these bits is set: (call numbers, [(32-bit word of the arguments, bits)]).
_UNLESS: dict[str, tuple[tuple[int, int | None], list[tuple[int, int]]]] = {
    'open': ((2, None), [(2, _WRITING)]),
    'openat': ((257, 56), [(4, _WRITING)]),
    'prlimit64': ((302, 261), [(4, _ANY), (5, _ANY)]),  # asking for a limit, not setting one
}
# Allowed if the word is one of these: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL,
# F_DUPFD_CLOEXEC; F_SETOWN and F_SETSIG would send signals.
_FCNTL = ((72, 25), 2, (0, 1, 2, 3, 4, 1030))

_ARCHITECTURES = {'x86_64': (0, 0xC000003E), 'aarch64': (1, 0xC00000B7)}

_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld abs, jeq, jset, ret
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # allow; EPERM; kill the process

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
_NOBODY = 65534
_SIGKILL = 9


def seccomp_program(machine: str) -> bytes:
    """Assembles the filter of system calls for an architecture, 8 bytes an instruction.

    Raises:
      OSError: if the architecture has no table here.
    """
    if machine not in _ARCHITECTURES:
        raise OSError(f'no table of system calls for {machine}')
    column, audit = _ARCHITECTURES[machine]

    def on_call(numbers: tuple[int, int | None], then: list[tuple[int, int, int, int]]) -> None:
        if numbers[column] is not None:
            code.extend([(_EQUAL, 0, len(then), numbers[column] or 0), *then])

    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    allow, deny = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)
    for numbers in _CALLS.values():
        on_call(numbers, [allow])
    for numbers, words in _UNLESS.values():
        checks = [((_LOAD, 0, 0, 16 + 4 * word), (_BITS, 0, 1, bits), deny) for word, bits in words]
        on_call(numbers, [*(step for check in checks for step in check), allow])
    numbers, word, values = _FCNTL
    matches = [step for value in values for step in ((_EQUAL, 0, 1, value), allow)]
    on_call(numbers, [(_LOAD, 0, 0, 16 + 4 * word), *matches, deny])
    code.append(deny)
    return b''.join(struct.pack('=HBBI', *instruction) for instruction in code)


def _checked(libc: ctypes.CDLL, what: str, result: int) -> int:
    """Raises OSError if a call of the C library failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f'{what}: {os.strerror(number)}')
    return result


def _landlock(libc: ctypes.CDLL, readable: Sequence[str]) -> int:
    """Confines reading to the given directories; returns the kernel's Landlock version, 0 if none.

    Source: landlock(7); calls 444 to 446 on every architecture.
    """
    version = libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version < 1:
        return 0
    rights = 13 if version == 1 else 14 if version == 2 else 15 if version < 5 else 16
    network = 3 if version >= 4 else 0  # bind and connect
    scoped = 3 if version >= 6 else 0  # abstract sockets and signals
    attributes = struct.pack('=QQQ', (1 << rights) - 1, network, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _checked(
        libc, 'landlock', libc.syscall(444, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    )
    for path in readable:
        if not os.path.exists(path):
            continue
        directory = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = 0b1100 if os.path.isdir(path) else 0b0100  # read files, list directories
        rule = struct.pack('=Qi', allowed, directory)
        _checked(libc, f'landlock {path}', libc.syscall(445, ruleset, 1, rule, ctypes.c_uint(0)))
        os.close(directory)
    _checked(libc, 'landlock', libc.syscall(446, ruleset, ctypes.c_uint(0)))
    os.close(ruleset)
    return int(version)


def _open_to_others(paths: Sequence[str]) -> bool:
    """Returns whether a user without rights of his own can read these directories."""
    for path in paths:
        real = os.path.realpath(path)
        if os.path.exists(real) and not os.stat(real).st_mode & 0o004:
            return False
        while real != '/':
            real = os.path.dirname(real)
            if os.path.exists(real) and not os.stat(real).st_mode & 0o001:
                return False
    return True


def _become_nobody(readable: Sequence[str]) -> bool:
    """Leaves root for a user without rights, if that user can read what Python needs."""
    if os.geteuid() != 0 or not _open_to_others(readable):
        return False
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:  # a container that has one user only
        return False
    return True


class Identity(NamedTuple):
    """Who a confined process is.

    Attributes:
      user, network: for people.
      is_apart: it is another user than the one who started it, or of another user namespace.
    """

    user: str
    network: str
    is_apart: bool


def _drop_identity(libc: ctypes.CDLL, readable: Sequence[str]) -> Identity:
    """Leaves root, privileges and the machine's network behind, as far as the kernel lets us."""
    empty = _CLONE_NEWNET | _CLONE_NEWIPC
    own_network = libc.unshare(empty) == 0
    nobody = _become_nobody(readable)
    own_users = not nobody and libc.unshare(_CLONE_NEWUSER) == 0
    if own_users and not own_network:
        own_network = libc.unshare(empty) == 0
    header, nothing = struct.pack('=Ii', 0x20080522, 0), bytes(24)  # capability version 3
    _checked(libc, 'capset', libc.capset(header, nothing))
    user = 'nobody' if nobody else 'the caller, without capabilities'
    return Identity(
        user=user + (', in a user namespace of its own' if own_users else ''),
        network='no socket can be made' + (', empty namespace' if own_network else ''),
        is_apart=nobody or own_users,
    )


def import_numpy_from(directory: str | None) -> None:
    """Makes numpy importable although site-packages is neither on the path nor readable."""

    class Finder:
        @staticmethod
        def find_spec(
            name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
        ) -> importlib.machinery.ModuleSpec | None:
            del path, target
            if name != 'numpy' or directory is None:
                return None
            return importlib.util.spec_from_file_location(
                name, f'{directory}/__init__.py', submodule_search_locations=[directory]
            )

    sys.meta_path.append(Finder)


def lock(readable: Sequence[str], memory_mb: int, cpu_s: int | None) -> dict[str, Any]:
    """Confines the calling process for good.

    Args:
      readable: directories and files that stay readable, where Landlock is there to tell.
      memory_mb: limit on the address space, MiB.
      cpu_s: limit on processor time, seconds; None for none.

    Returns:
      What is in force, JSON-able.

    Raises:
      OSError: if system calls cannot be filtered, a limit cannot be set, or nothing keeps the
        process from the memory of its user's other ones.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program = seccomp_program(platform.machine())
    identity = _drop_identity(libc, readable)
    # after the change of user, which clears it: die with the process that started us
    _checked(libc, 'prctl', libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))
    _checked(libc, 'prctl', libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    _checked(libc, 'prctl', libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    version = _landlock(libc, readable)
    if not version and not identity.is_apart:
        # It could read /proc/<pid>/mem and /proc/<pid>/environ of whatever its user runs: the
        # tests and expected values in the process that started it, and tokens.
        raise OSError('the kernel has no Landlock and grants no user namespace')
    limits = {
        resource.RLIMIT_AS: memory_mb << 20,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for limit, value in limits.items():
        if value is not None:
            resource.setrlimit(limit, (value, value))
    instructions = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack('@HP', len(program) // 8, ctypes.addressof(instructions))
    _checked(libc, 'seccomp', libc.prctl(_PR_SET_SECCOMP, 2, filters, 0, 0))
    return {
        'user': identity.user,
        'network': identity.network,
        'system_calls': f'{len(_CALLS) + len(_UNLESS) + 1} allowed, the rest fail (seccomp)',
        'processes': 'no process or thread can be started, no signal sent',
        'files': 'nothing can be written; '
        + (
            f'only Python and the system libraries can be read (Landlock {version})'
            if version
            else 'what the user may read can be read (this kernel has no Landlock)'
        )
        + '; that other files exist, their sizes and times can be seen',
    }
