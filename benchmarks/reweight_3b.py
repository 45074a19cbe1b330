"""What fitting weights of the anchors needs at 3B size: `python -m benchmarks.reweight_3b`.

A step of `distillation.reweight` is compiled at the true shapes of a model, for this machine's CPU;
no weight is made. Prints a Markdown row for each number of adapters fitted together: bytes by XLA's
own account (arguments, temporaries, results that are not donated), the operations of a step as
`operations` counts them (XLA counts a loop over layers once), and the seconds that 60 steps would
take at `--flops` operations a second. In bfloat16 XLA on CPUs makes
float32 copies of what goes into products, which no accelerator does: float32 is the upper bound.
"""

import argparse
import sys

import jax
import jax.numpy as jnp

from lorajax import sharding
from lorajax.distillation.reweight import ADAM, DEFAULTS, Problem, State, take_step
from lorajax.experiment import programs
from lorajax.experiment.config import Experiment
from lorajax.models import ModelConfig
from lorajax.models import config as config_lib
from lorajax.tasks.batching import Batch
from tests.models import shapes

RANK = 16  # of every anchor


def compiled_step(
    base: programs.Base, anchors: int, adapters: int, rows: int, length: int
) -> programs.Compiled:
    """Compiles one step for answers that fill half of their rows."""
    target = programs.stacked_adapters(base, anchors)
    depth = base.config.num_layers

    def floats(*shape: int) -> jax.ShapeDtypeStruct:
        return programs.array(base, shape, jnp.float32)

    def ints(*shape: int) -> jax.ShapeDtypeStruct:
        return programs.array(base, shape, jnp.int32)

    names = list(target['layers'])
    weights = {name: floats(adapters, depth, anchors) for name in names}
    grams = {name: floats(depth, anchors, anchors) for name in names}
    opt_state = jax.eval_shape(jax.vmap(ADAM.init), weights)
    state = State(weights, opt_state)
    batch = Batch(
        ints(adapters, rows, length), ints(adapters, rows, length),
        ints(adapters, rows, length // 2), floats(adapters, rows, length // 2),
    )  # fmt: skip
    problem = Problem(programs.stacked_adapters(base, adapters), weights, batch, floats(adapters))
    return take_step.lower(
        base.module, base.params, target, grams, state, problem,
        DEFAULTS.learning_rate, DEFAULTS.penalty,
    ).compile()  # fmt: skip


def operations(config: ModelConfig, rank: int, rows: int, length: int) -> float:
    """Returns the multiplications and additions of a step for one adapter.

    The base is multiplied with in the forward pass, once more because activations are computed
    again, and for the gradient of activations; the adapter of rank `rank` also for its own
    gradient. Answers are unembedded at half of the positions. Attention is left out: at these
    lengths it is a hundredth.
    """
    widths = config.projections.values()
    tokens = rows * length
    base = sum(fan_in * fan_out for fan_in, fan_out in widths) * config.num_layers
    adapter = sum(rank * (fan_in + fan_out) for fan_in, fan_out in widths) * config.num_layers
    words = config.embed_dim * config.vocab_size / 2
    return 2.0 * tokens * (3 * base + 4 * adapter + 3 * words)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--model', default='Llama-3.2-3B')
    parser.add_argument('--anchors', type=int, default=16)
    parser.add_argument('--adapters', default='1,2,4')
    parser.add_argument('--rows', type=int, default=8)
    parser.add_argument('--length', type=int, default=256)
    parser.add_argument('--dtype', default='bfloat16')
    parser.add_argument('--flops', type=float, default=3e14, help='of an accelerator, a second')
    args = parser.parse_args()
    config = config_lib.from_hf(shapes.REAL[args.model])
    experiment = Experiment(
        lora_rank=RANK, lora_alpha=2.0 * RANK, mesh=(1, 1, 1), param_dtype=args.dtype,
        dtype=args.dtype, remat='full',
    )  # fmt: skip
    base = programs.make_base(experiment, config, sharding.make_mesh(experiment.mesh))
    print('| model | dtype | anchors | adapters | rows | tokens a row | GiB | of it arguments '
          '| TFLOP a step and adapter | s an adapter | adapters a minute |')  # fmt: skip
    print('| --- | --- |' + ' ---: |' * 9)
    for adapters in map(int, args.adapters.split(',')):
        step = compiled_step(base, args.anchors, adapters, args.rows, args.length)
        rank = RANK * (args.anchors + 1)
        flops = operations(config, rank, args.rows, args.length)
        seconds = DEFAULTS.steps * flops / args.flops
        account = step.memory_analysis()
        total = programs.Program('reweighting', step).device_bytes
        cells = [
            args.model, args.dtype, args.anchors, adapters, args.rows, args.length,
            f'{total / 2**30:.1f}', f'{account.argument_size_in_bytes / 2**30:.1f}',
            f'{flops / 1e12:.1f}', f'{seconds:.1f}', f'{60 / seconds:.1f}',
        ]  # fmt: skip
        print('| ' + ' | '.join(map(str, cells)) + ' |')
        sys.stdout.flush()


if __name__ == '__main__':
    main()
