"""One small neural network per tensor, from source adapter to target adapter.

The networks work on coordinates in the spans of the anchors: with H K H = V diag(e) V^T the
anchors' coordinates are V diag(sqrt(e)), an isometry of their features, so inner products,
distances and the squared loss are those of the flattened adapters, at A numbers instead of
millions. What a network on raw features would output outside the anchors' span is noise of its
initialisation, and is left out. The seed's `pertensor_mlp` is of this kind; its hyper-parameters
are not published.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lorajax.mapping import ridge
from lorajax.mapping.options import Options
from lorajax.mapping.solvers import Problem, Query, Rule, State, folds
from lorajax.types import Array, JsonDict

HIDDEN = 32
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
CHECKPOINTS = 12  # numbers of steps among which leave-one-out chooses
STEPS_PER_CHECKPOINT = 25

Network = dict[str, Array]


def init_network(key: jax.Array, inputs: int, outputs: int) -> Network:
    """Returns a network with one hidden layer that outputs zero, which is the mean adapter."""
    hidden = jax.random.normal(key, (inputs, HIDDEN)) / jnp.sqrt(inputs)
    return {
        'hidden': hidden,
        'bias': jnp.zeros(HIDDEN),
        'out': jnp.zeros((HIDDEN, outputs)),
    }


def apply_network(network: Network, x: Array) -> jax.Array:
    """Maps float32[..., inputs] to float32[..., outputs]."""
    return jax.nn.gelu(x @ network['hidden'] + network['bias']) @ network['out']


@functools.partial(jax.jit, static_argnums=3)
def train_networks(keys: jax.Array, x: jax.Array, y: jax.Array, checkpoints: int) -> Network:
    """Trains one network per problem on all its samples at once, by AdamW.

    Args:
      keys: key[N], one per problem.
      x, y: float32[N, A, inputs] and float32[N, A, outputs].
      checkpoints: how many to return, `STEPS_PER_CHECKPOINT` steps apart.

    Returns:
      Networks with leaves [checkpoints, N, ...].
    """
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    networks = jax.vmap(lambda key: init_network(key, x.shape[-1], y.shape[-1]))(keys)

    def loss(networks: Network) -> jax.Array:
        return jnp.sum(jnp.square(jax.vmap(apply_network)(networks, x) - y)) / x.shape[1]

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        networks, state = carry
        updates, state = optimizer.update(jax.grad(loss)(networks), state, networks)
        return (optax.apply_updates(networks, updates), state), None

    def checkpoint(carry: tuple, _: None) -> tuple[tuple, Network]:
        carry, _ = jax.lax.scan(step, carry, length=STEPS_PER_CHECKPOINT)
        return carry, carry[0]

    start = networks, optimizer.init(networks)
    return jax.lax.scan(checkpoint, start, length=checkpoints)[1]


def coordinates(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the anchors' centred coordinates and their pseudo-inverse.

    Args:
      kernel: float64[..., A, A].

    Returns:
      float64[..., A, A] x, rows of mean square 1 taken together, and float64[..., A, A] with
      weights = 1/A + inverse @ prediction for a prediction in these coordinates.
    """
    centred = ridge.centre(kernel)
    unit = np.sqrt(centred.mean_diagonal)[..., None]
    roots = np.sqrt(centred.values)
    is_used = centred.values > 1e-9 * centred.values.max(-1, keepdims=True)
    inverse = np.where(is_used, unit / np.where(is_used, roots, 1.0), 0.0)
    return (
        centred.vectors * np.where(is_used, roots, 0.0)[..., None, :] / unit[..., None],
        centred.vectors * inverse[..., None, :],
    )


def query_coordinates(kernel: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Returns a query in the anchors' coordinates: float64[..., A] from its kernel row."""
    centred = ridge.centre(kernel)
    row = cross - centred.row_means
    row = row - row.mean(-1, keepdims=True)
    _, inverse = coordinates(kernel)
    return np.einsum('...ij,...i->...j', inverse, row) / centred.mean_diagonal[..., None]


def neural_network() -> Rule:
    """Networks of `train_networks`; the number of steps by leave-one-out, equal for all."""

    def fit(problem: Problem, options: Options) -> tuple[State, JsonDict]:
        key = jax.random.key(options.seed)
        checkpoint, rows = CHECKPOINTS - 1, np.zeros(problem.source.shape)
        if problem.anchors > 2:
            candidates = _left_out_candidates(key, problem)
            scores = ridge.loo_r2(candidates, problem.target)
            checkpoint = int(np.argmax(scores))
            rows = candidates[checkpoint]
        x, _ = coordinates(problem.source)
        y, _ = coordinates(problem.target)
        networks = _train(key, x, y, checkpoint + 1)
        state = {f'network.{name}': np.array(leaf[-1]) for name, leaf in networks.items()}
        return {**state, 'left_out': rows}, {'steps': (checkpoint + 1) * STEPS_PER_CHECKPOINT}

    def weights(state: State, problem: Problem, query: Query) -> np.ndarray:
        network: Network = {
            name.removeprefix('network.'): leaf
            for name, leaf in state.items()
            if name.startswith('network.')
        }
        x = query_coordinates(problem.source, query.source).astype(np.float32)
        y = np.asarray(jax.vmap(apply_network)(network, x), np.float64)
        return _weights_of(y, problem.target)

    def left_out(state: State, problem: Problem) -> np.ndarray:
        return state['left_out']

    return Rule(fit, weights, left_out)


def _train(key: jax.Array, x: np.ndarray, y: np.ndarray, checkpoints: int) -> Network:
    """Trains one network per row of the leading axis."""
    keys = jax.random.split(key, len(x))
    return train_networks(keys, x.astype(np.float32), y.astype(np.float32), checkpoints)


def _weights_of(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turns predicted coordinates float64[..., G, A] into weights of the anchors."""
    _, inverse = coordinates(target)
    return 1.0 / target.shape[-1] + np.einsum('...gij,...gj->...gi', inverse, prediction)


def _left_out_candidates(key: jax.Array, problem: Problem) -> np.ndarray:
    """Returns float64[checkpoints, G, A, A], weights of folds that never saw their anchor."""
    rows = np.zeros((CHECKPOINTS, *problem.source.shape))
    for i, (others, rest, query) in enumerate(folds(problem)):
        x, _ = coordinates(rest.source)
        y, _ = coordinates(rest.target)
        networks = _train(key, x, y, CHECKPOINTS)
        held_out = query_coordinates(rest.source, query.source).astype(np.float32)
        predicted = jax.vmap(jax.vmap(apply_network), (0, None))(networks, held_out)
        rows[:, :, i, others] = _weights_of(np.asarray(predicted, np.float64), rest.target)
    return rows
