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
- Round 4 in hours: predicted from these rates and from counts of its tokens, see `ROUND4`.

Peft and transformers take part where torch sees the device.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.timing import HEADER, Row, seconds
from tests.models import shapes

# bf16 operations a second of dense products, from the makers' data sheets.
PEAKS = {
    'H200': 989e12, 'H100 PCIe': 756e12, 'H100': 989e12, 'A100': 312e12, 'L40S': 362e12,
    'L4': 121e12, 'A10G': 70e12, 'TPU v6 lite': 918e12, 'TPU v5 lite': 197e12, 'TPU v5p': 459e12,
    'TPU v5': 459e12, 'TPU v4': 275e12,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Work:
    """How much of Round 4 there is, in tokens.

    Counted on the rows of 19 of the 22 tasks with `launch/round4.flags`: at most 1500 rows a task,
    275 characters a row; four characters count as a token and a chat template as 25 tokens. The
    three tasks of MATH are taken to have 500 rows each.

    Attributes:
      trained: tokens of three epochs of 22 tasks on both models, and of the held-outs once more.
      answers: that are decoded in experiments 1 to 3.
      read: tokens of their prompts.
      said: new tokens if every answer to a task of code is as long as the longest, 512, and every
        other has 8. So it is an upper bound.
    """

    trained: float = 2 * 15_550 * 3 * 94 + 6_290 * 3 * 94
    answers: float = 15_000
    read: float = 15_000 * 94
    said: float = 5_000 * 512 + 10_000 * 8


ROUND4 = Work()


@dataclasses.dataclass(frozen=True)
class Size:
    """What is computed.

    Attributes:
      model: name of `tests.models.shapes`.
      overrides: of its config.json.
      tokens: of a training example.
      prompt, new: tokens of decoding.
      rows: decoded with each of the adapters.
      adapters: in one step or batch.
      matrix: width of the product whose rate is measured.
    """

    model: str
    overrides: Mapping[str, Any]
    tokens: int
    prompt: int
    new: int
    rows: int
    adapters: int
    matrix: int


SIZES = {
    '3B': Size('Qwen2.5-3B', {}, 512, 128, 128, 32, 8, 8192),
    'small': Size(
        'Qwen2.5-0.5B',
        dict(vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, intermediate_size=128, head_dim=16),
        32, 8, 8, 4, 2, 256,
    ),
}  # fmt: skip


def peak(kind: str) -> float | None:
    """Returns the bf16 peak of a device by its name; None if it is not known."""
    return next((rate for name, rate in PEAKS.items() if name.lower() in kind.lower()), None)


def repeated(run: Callable[[], Any], work: float, count: int) -> list[float]:
    """Returns `count` rates, after a call that compiles."""
    run()
    return [work / seconds(run) for _ in range(count)]


def examples(size: Size, vocabulary: int, adapters: int, batch: int, steps: int) -> dict:
    """Returns random examples of adapters, every token but the first a target."""
    from benchmarks.steps import drawn

    rng = np.random.default_rng(0)
    return {
        f't{adapter}': [drawn(rng, 1, size.tokens - 1, vocabulary) for _ in range(batch * steps)]
        for adapter in range(adapters)
    }


def recipe(batch: int) -> Any:
    """Returns Round 4's recipe."""
    from lorajax import lora
    from lorajax.training import TrainConfig

    return TrainConfig(num_epochs=1, batch_size=batch, rank=16, alpha=32, targets=lora.TARGETS)


def ours(size: Size, directory: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measures lorajax on the first device."""
    import jax

    from benchmarks import timing
    from benchmarks.steps import Ours
    from lorajax import lora, models, sharding

    device, count = jax.devices()[0], given.repetitions
    dtype = 'float32' if device.platform == 'cpu' else 'bfloat16'
    found: dict[str, Any] = {
        'device': device.device_kind, 'platform': device.platform, 'dtype': dtype,
        'matrix': [timing.matrix_rate(size.matrix, dtype)],
    }  # fmt: skip
    mesh = sharding.make_mesh((1, 1, 1), [device])
    load = functools.partial(
        models.load_model, directory, dtype, dtype, mesh, given.remat, attention=given.attention
    )

    def loaded() -> models.Model:
        model = load()
        jax.block_until_ready(model.params)
        return model

    model = loaded()
    found['attention'] = model.module.attention
    found['parameters'] = model.config.num_params
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    del model
    found['loading'] = [num_bytes / seconds(loaded) / 1e9 for _ in range(count)]
    model = loaded()
    vocabulary = model.config.vocab_size
    for name, adapters, batch in (('step', 1, 8), ('one', 1, 4), ('many', size.adapters, 4)):
        tasks = examples(size, vocabulary, adapters, batch, count + 1)
        steps = Ours(model, tasks, recipe(batch))
        found[f'{name} compiling'] = steps.warm_up()
        turns = [functools.partial(steps.run, step) for step in range(1, count + 1)]
        found[name] = [adapters * batch * size.tokens / seconds(turn) for turn in turns]
        del steps, turns
    stacked = lora.stack(
        [
            timing.random_adapter(model.config.projections, model.config.num_layers, 16, seed, 0.01)
            for seed in range(size.adapters)
        ]
    )
    stacked = jax.device_put(stacked, sharding.sharding(mesh))
    rows = size.adapters * size.rows
    tokens = np.random.default_rng(1).integers(3, vocabulary, (rows, size.prompt)).astype(np.int32)

    def decode(adapter: Any, tokens: np.ndarray, new: int) -> Any:
        output = model.generate(tokens, adapter=adapter, max_new_tokens=new)
        return jax.block_until_ready(output)

    # Mixed rows: every adapter has other prompts.
    mixed = tokens.reshape(size.adapters, size.rows, -1)
    for name, adapter, prompts in (('base', None, tokens), ('mixed', stacked, mixed)):
        for kind, new in (('decoding', size.new), ('reading', 1)):
            run = functools.partial(decode, adapter, prompts, new)
            work = rows * (size.new if new > 1 else size.prompt)
            found[f'{kind} {name}'] = repeated(run, work, count)
    found['bytes'] = (device.memory_stats() or {}).get('peak_bytes_in_use')
    return found


def theirs(size: Size, directory: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measures peft and transformers on the first device."""
    import torch
    import transformers

    from benchmarks.steps import Peft

    device = given.peer_device
    dtype, count = ('float32' if device == 'cpu' else 'bfloat16'), given.repetitions

    def settle() -> None:
        if device == 'cuda':
            torch.cuda.synchronize()

    def loaded() -> Any:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=getattr(torch, dtype)
        )
        model = model.to(device)
        for value in model.parameters():  # a mapped file is read when it is touched
            value.data.sum()
        settle()
        return model

    base = loaded()
    num_bytes = sum(value.nbytes for value in base.parameters())
    vocabulary = base.config.vocab_size
    del base
    found: dict[str, Any] = {
        'loading': [num_bytes / seconds(loaded) / 1e9 for _ in range(count)],
        'device': torch.cuda.get_device_name() if device == 'cuda' else device,
    }
    for name, batch in (('step', 8), ('one', 4)):
        side = Peft(directory, recipe(batch), device, dtype)
        rows = examples(size, vocabulary, 1, batch, 1)['t0']
        found[name] = repeated(lambda s=side, r=rows: s.run(r), batch * size.tokens, count)
    model = side.model.eval()
    rng = np.random.default_rng(1)

    def decode(rows: int) -> None:
        tokens = torch.tensor(rng.integers(3, vocabulary, (rows, size.prompt)), device=device)
        with torch.no_grad():
            model.generate(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=size.new,
                min_new_tokens=size.new, do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        settle()

    found['decoding mixed'] = repeated(lambda: decode(size.rows), size.rows * size.new, count)
    rows = size.rows * size.adapters
    with model.disable_adapter():
        found['decoding base'] = repeated(lambda: decode(rows), rows * size.new, count)
    return found


def child(side: str, directory: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measures one side in a process of its own.

    Raises:
      RuntimeError: with the last line that the process wrote, if it fails.
    """
    done = subprocess.run(
        [
            sys.executable, '-m', 'benchmarks.gpu', f'--side={side}', f'--directory={directory}',
            f'--size={given.size}', f'--repetitions={given.repetitions}', f'--remat={given.remat}',
            f'--peer_device={given.peer_device}', f'--attention={given.attention}',
        ],
        capture_output=True, text=True,
    )  # fmt: skip
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


def table(size: Size, mine: Mapping[str, Any], peers: Mapping[str, Any]) -> list[Row]:
    """Returns the rows: rates of lorajax and, where there are any, of the peer."""
    median = statistics.median
    limit = peak(mine['device']) or median(mine['matrix'])
    limits = [limit / (4 * mine['parameters'])] * len(mine['step'])
    of_product = 4 * mine['parameters'] * median(mine['step']) / median(mine['matrix'])
    many = median(mine['many']) / median(mine['one'])
    mixed = median(mine['decoding mixed']) / median(mine['decoding base'])
    say = 'of {:.2f} of the rate of a product of two matrices of {} numbers'
    rows = size.adapters * size.rows
    return [
        Row(
            f'LoRA step, 8 x {size.tokens} tokens', 'tokens/s', mine['step'],
            peers.get('step', ()), limits, 'share 0.40',
            f'{say.format(of_product, size.matrix)}; compiling {mine["step compiling"]:.0f} s',
        ),
        Row(
            f'{size.adapters} adapters of batch 4 x {size.tokens} tokens in one step', 'tokens/s',
            mine['many'], peers.get('one', ()), limits,
            '1.5 times one by one', f'{many:.2f} times ours one by one; the peer has one adapter',
        ),
        Row(
            f'decoding {rows} rows of {size.adapters} adapters, {size.prompt} + {size.new}',
            'new tokens/s', mine['decoding mixed'], peers.get('decoding mixed', ()), (),
            '0.85 of the base alone',
            f'{mixed:.2f} of ours with the base alone; the peer has one adapter, {size.rows} rows',
        ),
        Row(
            f'decoding {rows} rows of the base', 'new tokens/s', mine['decoding base'],
            peers.get('decoding base', ()),
        ),
        Row('loading, files cached', 'GB/s', mine['loading'], peers.get('loading', ())),
    ]  # fmt: skip


def round4_hours(size: Size, mine: Mapping[str, Any], work: Work = ROUND4) -> float:
    """Predicts the hours of Round 4 without its mappings: trainings, answers and two loads.

    A decode step of 256 rows is taken to last as long however many of the rows are at work, and
    half of the lanes to be idle.
    """
    median = statistics.median
    rows = size.adapters * size.rows
    reading = 1 / median(mine['reading mixed'])  # seconds a token
    whole = rows * size.new / median(mine['decoding mixed'])
    step = (whole - rows * size.prompt * reading) / size.new
    taken = work.trained / median(mine['many']) + work.read * reading
    taken += 2 * work.said / rows * step + 2 * 6.2 / median(mine['loading'])
    return taken / 3600


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
    for row in table(size, mine, peers):
        print(row)
    if given.size == '3B':
        hours = round4_hours(size, mine)
        print(f'\nRound 4 without its mappings: {hours:.2f} hours, predicted from the rates above.')
    else:
        print('\nRound 4: not predicted, as the rates are of another size.')


def main() -> None:
    """Runs the sides in turn and prints the table, or is one of the sides."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--size', choices=SIZES, default='3B')
    parser.add_argument('--rounds', type=int, default=2, help='processes of each side')
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--remat', default='dots', choices=['none', 'dots', 'full'])
    parser.add_argument('--attention', default='auto', choices=['auto', 'xla', 'cudnn', 'splash'])
    parser.add_argument('--peer_device', default='', choices=['', 'cuda', 'cpu', 'none'])
    parser.add_argument('--side', choices=['ours', 'theirs', 'device'], help=argparse.SUPPRESS)
    parser.add_argument('--directory', help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side = {'ours': ours, 'theirs': theirs}[given.side]
        print(json.dumps(side(SIZES[given.size], given.directory, given)))
        return
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
