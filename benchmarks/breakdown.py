"""Where the time of a training step and of a decode step goes: `python -m benchmarks.breakdown`.

    python -m benchmarks.breakdown [--cases=toy,step,decode]

- toy: 22 toy adapters x 32 rows of 13 tokens.
- step: one adapter, 8 x 256 tokens, width 896, 6 layers, vocabulary 32,000.
- decode: the same model, eight adapters x 32 prompts, steps after the prompts were read.

The profiler times every operation of the compiled program. What the table has of an operation is
its least time by how often it runs, so that what else the machine does hardly counts. Operations
belong to the part of the source that the program says they come from. Work of two threads at a
time counts once, so the sum is near the time of a step on free cores.
"""

import argparse
import collections
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping

import jax
import numpy as np

from benchmarks import timing, training
from benchmarks.steps import Ours, drawn
from lorajax import lora, models
from lorajax.models import decoding
from lorajax.models import prompts as prompts_lib
from lorajax.models import step as step_lib
from lorajax.models.sampling import Greedy
from lorajax.toy.pretrain import CONFIGS

# The first pattern that is found in an operation's source names its part.
PARTS = (
    (r'\.\.\.i,oi->', 'products with base weights'),
    # A decode step names no source for the products of its attention, so they count here, too.
    (r'_proj/|bnt|ntr|vmap\(\)/dot_general', "products with adapters' factors"),
    (r'\.\.\.d,vd|\.\.\.v,vd|reduce_max|argmax|/exp$', 'unembedding, loss, choosing tokens'),
    (r'bkx|softmax|_where|concatenate|cos|sin', 'attention and rotation'),
    (r'norm|rsqrt|add_any', 'norms, sums of gradients'),
    (r'silu|gelu|layers/mul|jvp\(\)\)/mul', 'activation of the MLP'),
    (r'dynamic_|squeeze|stack', 'slices and stacks of the loop over layers'),
)
OTHER = 'copies and other'


def part_of(source: str) -> str:
    """Returns the part of the step that an operation belongs to, by its source."""
    return next((name for pattern, name in PARTS if re.search(pattern, source)), OTHER)


def sources(program: str) -> dict[str, str]:
    """Returns the source of every operation of a compiled program, as far as its text names one.

    A fusion without one has that of an operation in it.
    """
    bodies = dict(re.findall(r'^%?([\w.\-]+) [^\n]*\{\n(.*?)^\}', program, re.M | re.S))
    found = {}
    for line in program.splitlines():
        if match := re.match(r'\s*(?:ROOT )?%?([\w.\-]+) = ', line):
            text = line
            called = re.search(r'calls=%?([\w.\-]+)', line)
            if 'op_name="' not in line and called:
                text = bodies.get(called[1], '')
            if names := re.findall(r'op_name="([^"]+)"', text):
                found[match[1]] = names[-1]
    return found


def operations(program: str) -> set[str]:
    """Returns the operations of a compiled program that do not only call others."""
    lines = re.findall(r'^\s*(?:ROOT )?%?([\w.\-]+) = [^\n]*?\s([a-z\-]+)\(', program, re.M)
    return {name for name, kind in lines if kind not in ('while', 'call', 'conditional', 'tuple')}


def profile(run: Callable[[], None], program: str, repetitions: int) -> dict[str, float]:
    """Returns milliseconds of each part in a run.

    Args:
      run: executes the program once.
      program: its text.
      repetitions: runs that are looked at.
    """
    durations: dict[str, list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(repetitions):
                run()
        (path,) = pathlib.Path(directory).rglob('*.xplane.pb')
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    durations[event.name].append(event.duration_ns / 1e6)
    found: dict[str, float] = collections.defaultdict(float)
    known, source = operations(program), sources(program)
    for name in durations.keys() & known:
        taken = durations[name]
        found[part_of(source.get(name, ''))] += min(taken) * len(taken) / repetitions
    return found


def training_case(name: str) -> tuple[Callable[[], None], str, int]:
    """Returns a step, its program and over how many runs to look."""
    rng = np.random.default_rng(0)
    if name == 'toy':
        model = models.random_model(CONFIGS['source'], jax.random.key(0))
        config = dataclasses.replace(training.RECIPE, batch_size=32, rank=4)
        tasks = {f't{i}': [drawn(rng, 8, 5, 119) for _ in range(64)] for i in range(22)}
    else:
        model = models.random_model(training.QWEN, jax.random.key(0))
        config, tasks = training.RECIPE, {'t': [drawn(rng, 1, 255, 32000) for _ in range(16)]}
    ours = Ours(model, tasks, config)
    ours.warm_up()
    plan = ours.plan
    program = ours.train_step.lower(
        model.params, ours.state, plan.pack(1), plan.rates[1], plan.scales(1), plan.blocking(1),
        plan.layout.num_pieces,
    )  # fmt: skip
    return lambda: ours.run(1), program.compile().as_text(), 5 if name == 'toy' else 2


def decode_case() -> tuple[Callable[[], None], str, int]:
    """Returns 32 decode steps of 256 rows, their program and over how many runs to look."""
    model = models.random_model(training.QWEN, jax.random.key(0))
    c = model.config
    adapters = jax.tree.map(
        jax.numpy.asarray,
        lora.stack(
            [timing.random_adapter(c.projections, c.num_layers, 8, seed) for seed in range(8)]
        ),
    )
    tokens = np.random.default_rng(0).integers(3, c.vocab_size, (8, 32, 64)).astype(np.int32)
    prompts = prompts_lib.read_prompts(
        model.module, model.params, adapters, jax.numpy.asarray(tokens), np.ones_like(tokens)
    )
    keys = decoding.row_keys(jax.random.key(0), jax.numpy.arange(32))
    keys = jax.numpy.broadcast_to(keys, (8, *keys.shape))
    stops = jax.numpy.zeros(0, jax.numpy.int32)
    never = jax.numpy.full(8, 33)
    options = {'pad_id': 0, 'sampler': Greedy()}
    is_split = step_lib.pays(model.params)
    params = step_lib.split_layers(model.params) if is_split else model.params

    def begin() -> decoding.DecodeState:
        return decoding.begin(
            model.module, model.params, prompts, keys, np.zeros((8, 32), bool), stops,
            max_new_tokens=33, num_slots=33, split=is_split, **options,
        )  # fmt: skip

    def run() -> None:
        state = begin()
        jax.block_until_ready(
            decoding.decode(model.module, params, adapters, state, stops, never, **options)
        )

    program = decoding.decode.lower(
        model.module, params, adapters, begin(), stops, never, **options
    ).compile()
    run()
    return run, program.as_text(), 1


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the Markdown table: milliseconds and shares of every part."""
    totals = {case: sum(parts.values()) for case, parts in found.items()}
    names = [name for _, name in PARTS] + [OTHER]
    lines = [f'| part | {" | ".join(found)} |', '| --- |' + ' ---: |' * len(found)]
    for name in names:
        cells = [
            f'{parts[name]:.1f} ({parts[name] / totals[case]:.0%})' if parts.get(name) else ''
            for case, parts in found.items()
        ]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    lines.append(f'| all | {" | ".join(f"{total:.0f}" for total in totals.values())} |')
    return '\n'.join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cases', default='toy,step,decode')
    given = parser.parse_args()
    found = {}
    print(timing.machine(), flush=True)
    for case in given.cases.split(','):
        parts = profile(*(decode_case() if case == 'decode' else training_case(case)))
        if case == 'decode':
            parts = {name: value / 32 for name, value in parts.items()}
        found[f'{case}, ms'] = parts
    print(table(found))


if __name__ == '__main__':
    main()
