"""How the next token is chosen from its logits."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Takes the most likely token, the first of equals."""

    def __call__(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        """Maps float32[..., V] logits to int32[...] tokens.

        By parts of the vocabulary: which has the largest logit, and where in it. XLA's CPU backend
        reduces pairs of value and index one by one, and plain values many at a time.
        """
        del key
        part = math.gcd(logits.shape[-1], 256)
        parts = logits.reshape(*logits.shape[:-1], -1, part)
        first = jnp.argmax(parts.max(axis=-1), axis=-1, keepdims=True)
        within = jnp.take_along_axis(parts, first[..., None], axis=-2)[..., 0, :]
        return (first[..., 0] * part + jnp.argmax(within, axis=-1)).astype(jnp.int32)


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
