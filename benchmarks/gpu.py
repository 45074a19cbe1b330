"""Training, decoding and loading at 3B size on an accelerator, beside peft and transformers.

`bash benchmarks/gpu.sh` installs what is missing and runs this; on a CPU it takes a size at which
it only shows that it works. Weights are random at the shapes of a real model, in bfloat16 (float32
on a CPU). Each side has processes of its own, in turn, so that it has the memory for itself; a
process takes every measurement `--repetitions` times after compiling. Both sides use one device.

- LoRA step: one adapter of rank 16 on all projections, 8 examples of 512 tokens, all of them
  targets. The limit is the maker's bf16 peak, counted as 4 N operations a token.
- Eight adapters of batch 4 in one step, beside one adapter of batch 4.
- Decoding 256 rows, 128 tokens of prompt and 128 new ones: eight adapters x 32 rows in one batch,
  beside the base alone with 256 rows. The peer decodes one adapter's 32 rows, and the base's 256.
- Loading the checkpoint from cached files until it is on the device.
- Round 4 in hours, predicted from these rates, see `benchmarks.round4`.

What a side does is in `benchmarks.gpu_sides`.

Peft and transformers take part where torch sees the device.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import round4
from benchmarks.gpu_sides import SIZES, Size, add_flags
from benchmarks.timing import HEADER, Goal, Row
from tests.models import shapes

# bf16 operations a second of dense products, from the makers' data sheets.
PEAKS = {
    'H200': 989e12, 'H100 PCIe': 756e12, 'H100': 989e12, 'A100': 312e12, 'L40S': 362e12,
    'L4': 121e12, 'A10G': 70e12, 'TPU v6 lite': 918e12, 'TPU v5 lite': 197e12, 'TPU v5p': 459e12,
    'TPU v5': 459e12, 'TPU v4': 275e12,
}  # fmt: skip


def peak(kind: str) -> float | None:
    """Returns the bf16 peak of a device by its name; None if it is not known."""
    return next((rate for name, rate in PEAKS.items() if name.lower() in kind.lower()), None)


def child(side: str, directory: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measures one side in a process of its own.

    Raises:
      RuntimeError: with the last line that the process wrote, if it fails.
    """
    names = ('size', 'repetitions', 'remat', 'attention', 'peer_device')
    flags = [f'--{name}={getattr(given, name)}' for name in names]
    command = ['-m', 'benchmarks.gpu_sides', f'--side={side}', f'--directory={directory}', *flags]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f'status {done.returncode}'])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def join(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Puts the lists of several rounds together; of all else the last is taken."""
    joined: dict[str, Any] = {}
    for found in rounds:
        for name, value in found.items():
            joined[name] = joined.get(name, []) + value if isinstance(value, list) else value
    return joined


def table(
    size: Size, mine: Mapping[str, Any], peers: Mapping[str, Any], is_judged: bool = True
) -> list[Row]:
    """Returns the rows: rates of lorajax and, where there are any, of the peer.

    Args:
      size: what was computed.
      mine: rates of lorajax.
      peers: rates of the peer, or nothing.
      is_judged: whether the goals hold for this size.
    """
    median = statistics.median
    limit = peak(mine['device']) or median(mine['matrix'])
    limits = [limit / (4 * mine['parameters'])] * len(mine['step'])
    of_product = 4 * mine['parameters'] * median(mine['step']) / median(mine['matrix'])
    many = median(mine['many']) / median(mine['one'])
    mixed = median(mine['decoding mixed']) / median(mine['decoding base'])
    rows = size.adapters * size.rows
    found = [
        Row(
            f'LoRA step, 8 x {size.tokens} tokens', 'tokens/s', mine['step'],
            peers.get('step', ()), limits, Goal(0.40, 'share'),
            f'{of_product:.2f} of the rate of a product of two matrices of {size.matrix} numbers; '
            f'compiling {mine["step compiling"]:.0f} s',
        ),
        Row(
            f'{size.adapters} adapters of batch 4 x {size.tokens} tokens in one step', 'tokens/s',
            mine['many'], peers.get('one', ()), limits, Goal(1.5, 'of one by one', many),
            f'{many:.2f} times ours one by one; the peer has one adapter',
        ),
        Row(
            f'decoding {rows} rows of {size.adapters} adapters, {size.prompt} + {size.new}',
            'new tokens/s', mine['decoding mixed'], peers.get('decoding mixed', ()), (),
            Goal(0.85, 'of the base alone', mixed),
            f'{mixed:.2f} of ours with the base alone; the peer has one adapter, {size.rows} rows',
        ),
        Row(
            f'decoding {rows} rows of the base', 'new tokens/s', mine['decoding base'],
            peers.get('decoding base', ()),
        ),
        Row('loading, files cached', 'GB/s', mine['loading'], peers.get('loading', ())),
    ]  # fmt: skip
    return found if is_judged else [dataclasses.replace(row, goal=None) for row in found]


def report(given: argparse.Namespace, mine: Mapping[str, Any], peers: Mapping[str, Any],
           why_no_peer: str) -> None:  # fmt: skip
    """Prints the table and what its words mean."""
    size = SIZES[given.size]
    memory = f', most bytes in use {mine["bytes"] / 1e9:.1f} GB' if mine.get('bytes') else ''
    print(
        f'{mine["device"]}, {mine["dtype"]}, {size.model} shapes with random weights, '
        f'{mine["parameters"] / 1e9:.3g} billion parameters, remat {given.remat}, attention '
        f'{mine["attention"]}, {given.rounds} rounds of {given.repetitions} repetitions{memory}'
    )
    if given.size != '3B':
        print(
            'SMALL SIZE: this shows that the benchmark works. At 3B size on an accelerator all of '
            'it is unmeasured; no goal is judged here.'
        )
    elif mine['platform'] == 'cpu':
        print('On a CPU: an accelerator is unmeasured.')
    print(f'Peer: {peers["device"] if peers else "unmeasured, " + why_no_peer}.')
    known = 'the peak of the data sheet' if peak(mine['device']) else 'a measured matrix product'
    print(f'The limit is {known}, counted as 4 N operations a token.\n\n{HEADER}')
    for row in table(size, mine, peers, given.size == '3B'):
        print(row)
    if given.size == '3B':
        hours = round4.hours(size, mine)
        print(f'\nRound 4 without its mappings: {hours:.2f} hours, predicted from the rates above.')
    else:
        print('\nRound 4: not predicted, as the rates are of another size.')


def main() -> None:
    """Runs the sides in turn and prints the table."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    parser.add_argument('--rounds', type=int, default=2, help='processes of each side')
    given = parser.parse_args()
    why = 'as torch sees no such device or is not installed'
    if not given.peer_device:
        given.peer_device = _peer_device(given.size)
    size = SIZES[given.size]
    os.environ['XLA_PYTHON_CLIENT_MEM_FRACTION'] = '0.92'  # each side has the device for itself
    with tempfile.TemporaryDirectory() as temporary:
        cache = pathlib.Path(temporary, 'programs')
        os.environ['JAX_COMPILATION_CACHE_DIR'] = str(cache)  # for the second round
        directory = pathlib.Path(temporary, 'model')
        directory.mkdir()
        shapes.write(directory, size.model, **size.overrides)
        mine, peers = [], []
        for _ in range(given.rounds):
            mine.append(child('ours', str(directory), given))
            if given.peer_device != 'none':
                try:
                    peers.append(child('theirs', str(directory), given))
                except RuntimeError as error:
                    why, given.peer_device = f'it failed: {error}', 'none'
    report(given, join(mine), join(peers), why)


def _peer_device(size: str) -> str:
    """Returns 'cuda' where torch has it, 'cpu' for the small size, else 'none'."""
    code = 'import torch, peft, transformers; print(torch.cuda.is_available())'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    if done.returncode:
        return 'none'
    if done.stdout.strip() == 'True':
        return 'cuda'
    return 'cpu' if size == 'small' else 'none'


if __name__ == '__main__':
    main()
