"""Adapters and checkpoints as files: round trips, refusals and merging, as Markdown.

`python -m benchmarks.adapters round_trips FAMILY` (qwen2 or llama), `... scales` and `... refusals`
print tables; `... merge NAME` merges an adapter of rank 16 into a checkpoint of a real model's
shapes and prints time and memory.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from lorajax import lora
from lorajax.lora.peft import scale
from lorajax.models.hf import merge as merge_lib
from tests.models import shapes


def round_trips(family: str) -> None:
    """Prints what adapters of peft keep on their way, against peft."""
    from tests.lora import round_trip

    print(
        f'| adapter ({family}) | peft -> lorajax -> peft | trained here -> peft -> lorajax '
        '| any tree -> peft -> lorajax | logits, read here | logits, read by peft |\n'
        '| --- | --- | --- | ---: | ---: | ---: |'
    )
    for name in round_trip.CONFIGS:
        with tempfile.TemporaryDirectory() as root:
            row = round_trip.measure(pathlib.Path(root), family, name)
        files = 'same bits' if row['same_files'] and row['same_settings'] else 'differs'
        trees = 'same bits' if row['same_trees'] else 'differs'
        print(
            f'| {name} | {files} | {trees} | {row["units"]} ulp | {row["read"]:.1e} '
            f'| {row["written"]:.1e} |'
        )


def refusals() -> None:
    """Prints the line for each adapter and checkpoint that is refused, `{d}` for its directory."""
    from tests.lora import refusals as adapters
    from tests.models import malformed as checkpoints

    for title, cases, read in (
        ('adapters that cannot be expressed', adapters.UNEXPRESSED, adapters.read),
        ('malformed adapters', adapters.MALFORMED, adapters.read),
        ('malformed checkpoints', checkpoints.CASES, checkpoints.read),
    ):
        print(f'\n| {title} | line |\n| --- | --- |')
        for name, (make, _) in cases.items():
            with tempfile.TemporaryDirectory() as root:
                path = pathlib.Path(root) / 'it'
                make(path)
                print(f'| {name} | `{read(path)}` |')


def scales() -> None:
    """Prints how often numbers are lost between `b` and `b` times its scale."""
    drawn = np.random.default_rng(0).normal(0, 0.05, 2_000_000).astype(np.float32)
    print('| scale | no float32 folds to it | quotient is not the original | quotient folds '
          'differently |\n| --- | ---: | ---: | ---: |')  # fmt: skip
    for text, factor in (
        ('32/16', 2.0), ('24/16', 1.5), ('10/12', 10 / 12), ('20/sqrt(12)', 20 / 12**0.5),
        ('8/sqrt(8)', 8**0.5), ('1/3', 1 / 3),
    ):  # fmt: skip
        folded = scale.fold(drawn, factor)
        quotient = scale.unfold(folded, factor)
        pairs = (
            (scale.fold(scale.unfold(drawn, factor), factor), drawn),
            (quotient, drawn),
            (scale.fold(quotient, factor), folded),
        )
        shares = ' | '.join(f'{1 - scale.same_bits(*pair).mean():.4f}' for pair in pairs)
        print(f'| {text} = {factor:.4g} | {shares} |')


def merge(name: str) -> None:
    """Prints time and peak memory of merging at a real model's shapes, in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        (root / 'base').mkdir()
        config = shapes.write(root / 'base', name)
        size = sum(path.stat().st_size for path in (root / 'base').glob('*.safetensors'))
        rng = np.random.default_rng(0)
        layers = {
            target: {
                'a': rng.normal(0, 0.02, (config.num_layers, fan_in, 16)).astype(np.float32),
                'b': rng.normal(0, 0.02, (config.num_layers, 16, fan_out)).astype(np.float32),
            }
            for target, (fan_in, fan_out) in config.projections.items()
        }
        lora.save_peft(root / 'adapter', lora.LoraConfig(rank=16, alpha=32), {'layers': layers})
        subprocess.run(
            [sys.executable, '-m', 'benchmarks.adapters', 'child', str(root), str(size)], check=True
        )


def _peak() -> int:
    """Returns the most memory that this process has held, bytes."""
    status = pathlib.Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) * 1024


def child(directory: str, size: str) -> None:
    """Merges and prints; the caller has written base and adapter."""
    root = pathlib.Path(directory)
    before = _peak()
    start, cpu = time.monotonic(), time.process_time()
    merge_lib.merge_and_save(root / 'base', root / 'adapter', root / 'out')
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    peak = _peak()
    files = len(list((root / 'out').glob('*.safetensors')))
    print(f'{int(size) / 1e9:.2f} GB in, {files} files out, {seconds:.1f} s, {cpu:.1f} s of CPU, '
          f'peak {peak / 1e9:.2f} GB of which {before / 1e9:.2f} GB before')  # fmt: skip


if __name__ == '__main__':
    command, *arguments = sys.argv[1:]
    commands = (round_trips, scales, refusals, merge, child)
    {function.__name__: function for function in commands}[command](*arguments)
