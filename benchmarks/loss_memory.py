"""Memory of the training loss at a vocabulary of 151,936: `python -m benchmarks.loss_memory`.

The loss of 4 x 8 x 384 answer tokens and its gradient by the hidden states, 2048 wide, compiled
ahead of time for this machine's device: bytes beside arguments and results, as the compiled program
states them. Nothing is computed. "plain" makes all logits at once, as a softmax cross-entropy does.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lorajax.models.loss import token_nll
from lorajax.models.transformer import unembed

SHAPE, WIDTH, VOCABULARY = (4, 8 * 384), 2048, 151_936


def plain(matrix: jax.Array, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns what `token_nll` returns, from all logits."""
    logits = unembed({'embed': {'embedding': matrix}}, hidden)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def temporary_bytes(nll: Callable[..., jax.Array], dtype: str) -> int:
    """Returns the temporaries of the compiled sum of losses and its gradient."""
    of = jax.ShapeDtypeStruct
    arguments = (
        of((VOCABULARY, WIDTH), dtype), of((*SHAPE, WIDTH), dtype), of(SHAPE, 'int32'),
    )  # fmt: skip
    both = jax.value_and_grad(lambda m, h, t: nll(m, h, t).sum(), argnums=1)
    return jax.jit(both).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def main() -> None:
    """Prints the table."""
    print('| dtype | plain, GB | lorajax, GB |\n| --- | ---: | ---: |')
    for dtype in ('float32', 'bfloat16'):
        sizes = [temporary_bytes(nll, dtype) / 1e9 for nll in (plain, token_nll)]
        print(f'| {dtype} | {sizes[0]:.2f} | {sizes[1]:.2f} |', flush=True)


if __name__ == '__main__':
    main()
