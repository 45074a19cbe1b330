"""What no test suite has time for: kills, signals, a full disk, two starts at once.

    python -m benchmarks.torture [kills|pair|signals|disk|race ...] [--kills=20] [--races=200]

Every trial is a run of the toy world, shrunk. It prints one line a trial and ends with status 1
if a promise of the work directory was broken:

- killed anywhere, as often as you like, the same command ends with the same bytes;
- of two processes that work as one, the one that is killed ends the other with a line and a status
  for a scheduler, and started again both end with the same bytes;
- SIGINT and SIGTERM end a run with one line, status 130 and 143, and nothing half-written;
- a full disk is one line and status 2, and with more room the same command ends as ever;
- of two processes that start at once one works, the other is refused and removes nothing.

`disk` mounts small file systems and needs root.
"""

import concurrent.futures
import contextlib
import hashlib
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import app, flags

LOST = 75  # as lorajax.processes says; read without importing JAX here
_ROOT = pathlib.Path(__file__).resolve().parent.parent
_SMALL = (
    '--flagfile=launch/toy.flags',
    '--anchors=toy_math_keep_5,toy_math_reverse_1,toy_code_keep_1,toy_science_keep_1',
    '--heldouts=toy_math_keep_7,toy_code_keep_5', '--methods=mean,delta_ridge,distilled',
    '--distill_from=delta_ridge', '--train_per_task=64', '--num_epochs=2', '--eval_per_task=20',
    '--eval_batch_size=20', '--study_items=8', '--anchor_counts=3', '--anchor_draws=1',
    '--top_k_grid=1', '--checkpoint_every=1', '--adapters_per_step=3',
)  # fmt: skip
# Of two processes even less: on two cores they take turns, and every step waits for both.
_PAIR = (
    '--anchors=toy_math_keep_5,toy_code_keep_1,toy_science_keep_1', '--heldouts=toy_math_keep_7',
    '--methods=mean,distilled', '--distill_from=mean', '--experiments=1', '--train_per_task=32',
    '--eval_per_task=8', '--eval_batch_size=8', '--adapters_per_step=2',
)  # fmt: skip
_FEW_OPTIMIZATIONS = '--xla_backend_optimization_level=0'  # most of a pair's time is compiling
# Files that tell when something was done; all others must have the same bytes.
_CLOCKED = {'config.json', 'metrics.jsonl', 'diagnostics.json', '.lock'}


def start(workdir: pathlib.Path, *words: str, xla: str = '') -> 'subprocess.Popen[str]':
    """Starts the small run, with more flags, and flags for XLA."""
    return subprocess.Popen(
        [sys.executable, '-m', 'lorajax.launch', *_SMALL, f'--workdir={workdir}', *words],
        cwd=_ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': xla},
    )  # fmt: skip


def finish(workdir: pathlib.Path) -> tuple[int, str]:
    """Runs to the end; returns the status and what was said."""
    process = start(workdir)
    said = process.communicate(timeout=600)[1]
    return process.returncode, said


def content(workdir: pathlib.Path) -> dict[str, str]:
    """Returns the hash of every file that must not depend on kills, by name.

    Adapters name their base model by its path, which each trial has of its own.
    """
    here = str(workdir).encode()
    return {
        path.relative_to(workdir).as_posix(): hashlib.sha256(
            path.read_bytes().replace(here, b'WORKDIR')
        ).hexdigest()
        for path in sorted(workdir.rglob('*'))
        if path.is_file()
        and path.name.removesuffix('.sha256') not in _CLOCKED
        and 'SHA256SUMS' not in path.name
        and path.relative_to(workdir).parts[0] != 'report'
    }


def differences(workdir: pathlib.Path, expected: dict[str, str]) -> list[str]:
    """Returns what is wrong with a finished run, against an undisturbed one."""
    actual = content(workdir)
    wrong = [n for n in sorted(expected.keys() | actual.keys()) if expected.get(n) != actual.get(n)]
    return wrong + [str(path) for path in workdir.rglob('.*-*') if path.name != '.lock']


def kills(
    root: pathlib.Path, expected: dict[str, str], seconds: float, count: int
) -> Iterator[str]:
    """Kills runs at random moments, again and again until they are done."""
    rng = random.Random(0)
    done, trial = 0, 0
    while done < count:
        workdir, killed = root / f'kills-{trial}', []
        trial += 1
        while True:
            begin = time.monotonic()
            process = start(workdir)
            delay = rng.uniform(0.1, 0.8) * seconds
            try:
                said = process.communicate(timeout=delay)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed.append(f'{delay:.1f}')
                done += 1
                continue
            break
        if not killed:  # programs are compiled once: the first run was the slowest
            seconds = min(seconds, time.monotonic() - begin)
        wrong = differences(workdir, expected)
        if process.returncode:
            wrong.append(f'status {process.returncode}: {said.splitlines()[-1:]}')
        yield _line(f'killed after {", ".join(killed) or "nothing"} s', wrong)
        shutil.rmtree(workdir)


def start_pair(workdir: pathlib.Path) -> list['subprocess.Popen[str]']:
    """Starts a still smaller run in two processes that work as one, over loopback."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    return [
        start(
            workdir, *_PAIR, '--mesh=2,1,1', f'--coordinator_address=127.0.0.1:{port}',
            '--num_processes=2', f'--process_id={index}', xla=_FEW_OPTIMIZATIONS,
        )
        for index in range(2)
    ]  # fmt: skip


def end_pair(processes: 'list[subprocess.Popen[str]]') -> list[tuple[int, str]]:
    """Waits for two processes; returns the status of each, and what it said."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        said = pool.map(lambda process: process.communicate(timeout=600)[1], processes)
        return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def pair(root: pathlib.Path, expected: dict[str, str], seconds: float, count: int) -> Iterator[str]:
    """Kills one of two processes that work as one, until they are done."""
    del expected, seconds
    begin = time.monotonic()
    whole = end_pair(start_pair(root / 'pair'))
    seconds = time.monotonic() - begin
    yield _line(f'two processes, undisturbed: {seconds:.1f} s', [f'{w}' for w in whole if w[0]])
    expected = content(root / 'pair')
    rng = random.Random(2)
    done = trial = 0
    while done < count:
        workdir, killed, wrong = root / f'pair-{trial}', [], []
        trial += 1
        while True:
            started = time.monotonic()
            processes = start_pair(workdir)
            index, delay = rng.randrange(2), rng.uniform(0.1, 0.9) * seconds
            deadline = time.monotonic() + delay
            while time.monotonic() < deadline and processes[index].poll() is None:
                time.sleep(0.05)
            if processes[index].poll() is None:
                processes[index].kill()  # and the kernel its child
                killed.append(f'{index} after {delay:.0f} s')
                done += 1
            begin = time.monotonic()
            ended = end_pair(processes)
            waited = time.monotonic() - begin
            status, said = ended[1 - index]
            last = said.strip().splitlines()[-1:] or ['']
            if ended[index][0] == 0 == status:
                if not killed:  # programs are compiled once: the first run was the slowest
                    seconds = min(seconds, time.monotonic() - started)
                break
            if ended[index][0] != -signal.SIGKILL or (status and status != LOST):
                wrong.append(f'statuses {ended[index][0]}, {status}, last line {last[0]!r}')
                break
            if waited > 100 or not (status == 0 or 'is gone or out of reach' in last[0]):
                wrong.append(f'{waited:.0f} s for the other to end, last line {last[0]!r}')
        wrong += differences(workdir, expected)
        yield _line(f'killed {", ".join(killed) or "nothing"}', wrong)
        shutil.rmtree(workdir)


def signals(
    root: pathlib.Path, expected: dict[str, str], seconds: float, count: int
) -> Iterator[str]:
    """Sends SIGINT and SIGTERM at random moments, then lets the run end."""
    rng = random.Random(1)
    for trial in range(count):
        number = (signal.SIGINT, signal.SIGTERM)[trial % 2]
        workdir = root / f'signals-{trial}'
        process = start(workdir)
        delay = rng.uniform(0.15, 0.9) * seconds
        time.sleep(delay)
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
        wrong = []
        last = said.strip().splitlines()[-1:] or ['']
        if process.returncode not in (128 + number, 0):
            wrong.append(f'status {process.returncode}')
        if process.returncode and not last[0].startswith('lorajax: ended by'):
            wrong.append(f'last line {last[0]!r}')
        wrong += ['a traceback'] * ('Traceback' in said)
        wrong += [f'left {path}' for path in workdir.rglob('.partial-*')]
        status, said = finish(workdir)
        wrong += [f'then status {status}: {said.splitlines()[-1:]}'] if status else []
        wrong += differences(workdir, expected)
        yield _line(f'{number.name} after {delay:.1f} s: status {process.returncode}', wrong)
        shutil.rmtree(workdir)


def disk(root: pathlib.Path, expected: dict[str, str], seconds: float, count: int) -> Iterator[str]:
    """Runs on file systems that fill up at different places, then makes room."""
    del seconds
    size = sum(p.stat().st_size for p in (root / 'whole').rglob('*') if p.is_file())
    for trial in range(count):
        kib = int(size / 1024 * (0.02 + 0.96 * trial / max(count - 1, 1)))
        with _small_disk(root / 'disk', kib) as mount:
            workdir = mount / 'run'
            status, said = finish(workdir)
            last = said.strip().splitlines()[-1:] or ['']
            wrong = ['a traceback'] * ('Traceback' in said)
            if status not in (0, 2) or (status and not last[0].startswith('lorajax: ')):
                wrong.append(f'status {status}, last line {last[0]!r}')
            subprocess.run(['mount', '-o', 'remount,size=1g', str(mount)], check=True)
            again, said = finish(workdir)
            wrong += [f'then status {again}: {said.splitlines()[-1:]}'] if again else []
            wrong += differences(workdir, expected)
        yield _line(f'{kib} KiB: status {status}: {last[0][:120]}', wrong)


@contextlib.contextmanager
def _small_disk(mount: pathlib.Path, kib: int) -> Iterator[pathlib.Path]:
    """Mounts a file system in memory with room for some KiB."""
    mount.mkdir(exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={kib}k', 'none', str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(['umount', str(mount)], check=True)


def race(root: pathlib.Path, expected: dict[str, str], seconds: float, count: int) -> Iterator[str]:
    """Lets two processes enter a new work directory in the same moment, many times."""
    del expected, seconds
    won, wrong = 0, []
    context = multiprocessing.get_context('spawn')
    with context.Pool(2, _meet, (context.Barrier(2),)) as pool:
        for trial in range(count):
            entered = pool.map(_enter, [root / f'race-{trial}'] * 2, chunksize=1)
            lost = not (root / f'race-{trial}' / 'config.json').exists()
            if not any(entered) or lost:
                wrong.append(f'trial {trial}: entered {entered}, files lost: {lost}')
            won += sum(entered)
    yield _line(f'{count} races, {won} of {2 * count} processes worked', wrong)


_BARRIER = None


def _meet(barrier) -> None:
    """Keeps the barrier in a worker."""
    global _BARRIER
    _BARRIER = barrier


def _enter(workdir: pathlib.Path) -> bool:
    """Locks a work directory and leaves a file there; returns whether it was let in."""
    from lorajax.errors import InputError
    from lorajax.experiment.pipeline import lock
    from lorajax.experiment.workdir import Workdir

    files = Workdir(workdir)
    _BARRIER.wait()
    try:
        with lock(files):
            time.sleep(0.002)
            files.config.write_text('{}')
    except InputError:
        return False
    return True


def _line(trial: str, wrong: list[str]) -> str:
    """Returns the line of one trial."""
    return f'{trial}: ' + (f'BROKEN: {"; ".join(wrong[:5])}' if wrong else 'kept')


_TRIALS: dict[str, Callable[..., Iterator[str]]] = {
    'kills': kills, 'pair': pair, 'signals': signals, 'disk': disk, 'race': race,
}  # fmt: skip


def main(argv: list[str]) -> None:
    """Does the trials that are named, all if none is."""
    args = flags.FLAGS
    names = argv[1:] or list(_TRIALS)
    counts = {
        'kills': args.kills,
        'pair': args.kills,
        'signals': args.signals,
        'disk': args.disks,
        'race': args.races,
    }
    is_broken = False
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        expected, seconds = {}, 0.0
        if names != ['pair']:  # which has an undisturbed run of its own
            begin = time.monotonic()
            status, said = finish(root / 'whole')
            seconds = time.monotonic() - begin
            if status:
                sys.exit(said[-2000:])
            print(f'undisturbed: {seconds:.1f} s')
            expected = content(root / 'whole')
        for name in names:
            for line in _TRIALS[name](root, expected, seconds, counts[name]):
                is_broken |= 'BROKEN' in line
                print(f'{name}: {line}', flush=True)
    sys.exit(is_broken)


if __name__ == '__main__':
    flags.DEFINE_integer('kills', 20, 'SIGKILLs in all')
    flags.DEFINE_integer('signals', 6, 'runs that get SIGINT or SIGTERM')
    flags.DEFINE_integer('disks', 8, 'sizes of a full disk')
    flags.DEFINE_integer('races', 200, 'starts of two processes at once')
    app.run(main)
