"""How the next token is chosen from its logits."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Takes the most likely token, the first of equals."""

    def __call__(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        """Maps float32[..., V] logits to int32[...] tokens.

        As `jnp.argmax`, whose reduction of pairs XLA's CPU backend does one by one: 32 rows of 32
        thousand logits take 5.0 ms by argmax, 0.5 ms by two plain reductions.
        """
        del key
        size = logits.shape[-1]
        top = jnp.max(logits, axis=-1, keepdims=True)
        index = jnp.arange(size, dtype=jnp.int32)
        is_top = ~(logits < top)  # with a NaN among them all: token 0
        return jnp.min(jnp.where(is_top, index, size), axis=-1)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Draws from the tempered distribution, restricted to its top part.

    Attributes:
      temperature: > 0; logits are divided by it.
      top_k: only the k most likely tokens; 0 for all.
      top_p: only the fewest tokens whose probability reaches p; 1 for all.

    Source: Holtzman et al. 2020 (nucleus sampling).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __call__(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        """Maps float32[..., V] logits to int32[...] tokens."""
        logits = logits / self.temperature
        if self.top_k:
            smallest = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits < smallest, -jnp.inf, logits)
        if self.top_p < 1.0:
            ordered = jnp.sort(logits, axis=-1, descending=True)
            probs = jax.nn.softmax(ordered, axis=-1)
            is_kept = jnp.cumsum(probs, axis=-1) - probs < self.top_p
            smallest = jnp.min(jnp.where(is_kept, ordered, jnp.inf), axis=-1, keepdims=True)
            logits = jnp.where(logits < smallest, -jnp.inf, logits)
        return jax.random.categorical(key, logits).astype(jnp.int32)


Sampler = Callable[[jax.Array, jax.Array], jax.Array]
