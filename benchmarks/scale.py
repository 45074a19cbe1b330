"""How time, memory and disk grow with the number of adapters: predictions from stated constants.

    python -m benchmarks.scale

Nothing is measured and nothing is loaded. `docs/scale.md` holds the tables that this prints, and
says which constants were measured.
"""

import dataclasses

_RANK = 16
_DAY = 86400.0


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices that work on adapters of their own.

    Attributes:
      name: of the table.
      devices: how many.
      flops: peak in bfloat16 of each, per second.
      bandwidth: of its memory, bytes per second.
      cores_flops: matrix rate of the host's cores for mappings, per second.
    """

    name: str
    devices: int
    flops: float
    bandwidth: float
    cores_flops: float


MACHINES = (
    Machine('one H100', 1, 989e12, 3.35e12, 1.6e12),
    Machine('8 H100', 8, 989e12, 3.35e12, 1.6e12),
    Machine('v5e-32', 32, 197e12, 0.82e12, 1.6e12),
)
COUNTS = (44, 1_000, 100_000)

PARAMETERS = 3.1e9  # of a base, mean of the two of Round 4
FACTORS = (29.9e6, 24.3e6)  # of an adapter of rank 16 on each
TENSORS = 7 * (36 + 28)
ROWS, EPOCHS, TOKENS = 1500, 3, 200  # of a training; tokens of a row
ITEMS, PROMPT, ANSWER = 300, 200, 64  # of an evaluation; tokens
TRAIN_SHARE, PROMPT_SHARE, DECODE_SHARE = 0.4, 0.4, 0.5  # of the peak; of bandwidth or peak
LANES = 256  # rows that a device decodes at once


def training_seconds(count: int, machine: Machine) -> float:
    """Returns the time of `count` trainings: 4 N operations a token, as the base is frozen."""
    operations = 4 * PARAMETERS * ROWS * EPOCHS * TOKENS * count
    return operations / (machine.flops * machine.devices * TRAIN_SHARE)


def evaluation_seconds(count: int, machine: Machine) -> float:
    """Returns the time to let each adapter answer the items of one task."""
    prompts = 2 * PARAMETERS * PROMPT / (machine.flops * PROMPT_SHARE)
    weights = 2 * PARAMETERS / machine.bandwidth
    step = max(weights, LANES * 2 * PARAMETERS / machine.flops) / DECODE_SHARE
    return ITEMS * count * (prompts + ANSWER * step / LANES) / machine.devices


def gram_seconds(anchors: int, machine: Machine) -> float:
    """Returns the time of all inner products of updates of `anchors` pairs, on the host."""
    operations = sum(2 * _RANK * factors for factors in FACTORS)
    return anchors * (anchors + 1) / 2 * operations / machine.cores_flops


def gram_bytes(anchors: int) -> float:
    """Returns the bytes of the Gram matrices of all tensors, float64."""
    return 8.0 * TENSORS * anchors**2


def disk_bytes(count: int) -> float:
    """Returns the bytes of `count` adapters in float32, half of them on each model."""
    return 4 * count * sum(FACTORS) / 2


def span(seconds: float) -> str:
    """Returns a time as a person says it."""
    for unit, size in (('days', _DAY), ('h', 3600.0), ('min', 60.0)):
        if seconds >= 2 * size:
            return f'{seconds / size:.3g} {unit}'
    return f'{seconds:.2g} s'


def size(count: float) -> str:
    """Returns a number of bytes as a person says it."""
    for unit, factor in (('TB', 1e12), ('GB', 1e9)):
        if count >= factor:
            return f'{count / factor:.3g} {unit}'
    return f'{count / 1e6:.3g} MB'


def main() -> None:
    """Prints the tables."""
    print('| adapters | machine | training | evaluation | both |')
    print('| ---: | --- | ---: | ---: | ---: |')
    for count in COUNTS:
        for machine in MACHINES:
            train, score = training_seconds(count, machine), evaluation_seconds(count, machine)
            print(
                f'| {count:,} | {machine.name} | {span(train)} | {span(score)} | '
                f'{span(train + score)} |'
            )
    print('\n| anchors | inner products, 16 cores | Gram matrices | adapters on disk |')
    print('| ---: | ---: | ---: | ---: |')
    for count in (16, *COUNTS):
        print(
            f'| {count:,} | {span(gram_seconds(count, MACHINES[0]))} | {size(gram_bytes(count))} | '
            f'{size(disk_bytes(2 * count))} |'
        )


if __name__ == '__main__':
    main()
