"""The tasks of the toy world, in the form that real tasks have."""

import functools

import numpy as np

from lorajax.rng import generator
from lorajax.tasks.task import Example, Pools, RowSource, Task
from lorajax.toy import world

NUM_TRAIN, NUM_EVAL = 2000, 400


@functools.cache
def _inputs() -> tuple[np.ndarray, np.ndarray]:
    """Returns int64[2000, 4] training and int64[400, 4] evaluation inputs.

    All tasks share the two sets: functions of a domain have the same inputs, so one that is
    evaluated in one task must not be trained on in another.
    """
    everything = world.inputs()
    order = generator(0, 'toy inputs').permutation(len(everything))
    return everything[order[NUM_EVAL:][:NUM_TRAIN]], everything[order[:NUM_EVAL]]


def _example(function: world.Function, symbols: np.ndarray) -> Example:
    """The example of one input: both tags unknown."""
    question = ' '.join(function.words(symbols))
    answer = ' '.join(function.words(function.apply(symbols)))
    return Example(
        item=f'{function.task}/{"".join(map(str, symbols))}',
        prompt=function.prompt(symbols, knows_order=False, knows_shift=False),
        answer=answer,
        reference=answer,
        problem_ids=(f'toy/{question}',),
        question=question,
    )


def _pools(rows: RowSource, protocol: str, *, function: world.Function) -> Pools:
    """All examples of one function; nothing is read."""
    del rows, protocol
    train, held = _inputs()
    return Pools(
        train=tuple(_example(function, symbols) for symbols in train),
        eval=tuple(_example(function, symbols) for symbols in held),
    )


def _task(function: world.Function, role: str) -> Task:
    """The task of one function."""
    return Task(
        name=function.task,
        domain=function.domain,
        role=role,
        source=f'generated: {function.order}, each symbol plus {function.shift}',
        scorer='exact',
        pools=functools.partial(_pools, function=function),
    )


_ANCHORS, _HELDOUTS = world.DEFAULT.split()
ANCHORS: tuple[str, ...] = tuple(function.task for function in _ANCHORS)
HELDOUTS: tuple[str, ...] = tuple(function.task for function in _HELDOUTS)
# Every function there is, so that runs can be made in worlds of other shifts too.
TASKS: dict[str, Task] = {
    f.task: _task(f, 'heldout' if f in _HELDOUTS else 'anchor')
    for f in world.World(tuple(range(1, world.SYMBOLS_PER_DOMAIN))).functions
}
