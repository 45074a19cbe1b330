"""One small neural network per tensor, from source adapter to target adapter.

The networks work on coordinates in the spans of the anchors: with H K H = V diag(e) V^T the
anchors' coordinates are V diag(sqrt(e)), an isometry of their features, so inner products,
distances and the squared loss are those of the flattened adapters, at A numbers instead of
millions. What a network on raw features would output outside the anchors' span is noise of its
initialisation, and is left out. The seed's `pertensor_mlp` is of this kind; its hyper-parameters
are not published.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lorajax.mapping import ridge
from lorajax.mapping.compiling import quick_jit
from lorajax.mapping.float64 import on_host
from lorajax.mapping.layout import numbers
from lorajax.mapping.options import Options
from lorajax.mapping.solvers import Fit, Problem, Query, Solver, State, folds
from lorajax.types import Array

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


@quick_jit(static_argnums=3)
def train_networks(keys: jax.Array, x: Array, y: Array, checkpoints: int) -> Network:
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


def coordinates(kernel: Array) -> tuple[jax.Array, jax.Array]:
    """Returns the anchors' centred coordinates and their pseudo-inverse.

    Args:
      kernel: float64[..., A, A].

    Returns:
      float64[..., A, A - 1] x, rows of mean square 1 taken together, and an inverse of the same
      shape: weights = 1/A + inverse @ prediction for a prediction in these coordinates.
    """
    centred = ridge.centre(kernel)
    unit = jnp.sqrt(centred.mean_diagonal)[..., None]
    roots = jnp.sqrt(centred.values)
    is_used = centred.values > 1e-9 * centred.values[..., -1:]
    inverse = jnp.where(is_used, unit / jnp.where(is_used, roots, 1.0), 0.0)
    forward = jnp.where(is_used, roots, 0.0)[..., None, :] / unit[..., None]
    vectors = jnp.asarray(centred.vectors)
    return vectors * forward, vectors * inverse[..., None, :]


def query_coordinates(kernel: Array, cross: Array) -> jax.Array:
    """Returns queries in the anchors' coordinates, float64[..., A - 1], from their kernel rows."""
    centred = ridge.centre(kernel)
    row = cross - centred.row_means
    _, inverse = coordinates(kernel)
    return jnp.einsum('...ij,...i->...j', inverse, row) / centred.mean_diagonal[..., None]


class Coordinates(NamedTuple):
    """What networks are trained on, and how to read their answers.

    x, y: float64[..., A, A - 1] of the anchors on both sides. inverse: of y. queries:
    float64[..., A - 1].
    """

    x: Array
    y: Array
    inverse: Array
    queries: Array


@on_host
def _coordinates(problem: Problem, cross: Array) -> Coordinates:
    """Coordinates of problems and their queries, batch axes before G."""
    x, _ = coordinates(problem.source)
    y, inverse = coordinates(problem.target)
    return Coordinates(x, y, inverse, query_coordinates(problem.source, cross))


def neural_network() -> Solver:
    """Networks of `train_networks`; the number of steps by leave-one-out, equal for all."""

    def fit(problem: Problem, options: Options) -> Fit:
        key = jax.random.key(options.seed)
        checkpoint = CHECKPOINTS - 1
        rows = np.broadcast_to(
            ridge.mean_leave_one_out(problem.anchors), problem.source.shape
        )  # of two anchors nothing else can be learnt from one
        if problem.anchors > 2:
            candidates = _left_out_candidates(key, problem)
            checkpoint = int(np.argmax(_loo_r2(candidates, problem.target)))
            rows = candidates[checkpoint]
        known = _coordinates(problem, problem.source[:, 0])
        networks = _train(key, known.x, known.y)
        state = {f'network.{name}': np.array(leaf[checkpoint]) for name, leaf in networks.items()}
        return Fit(state, {'steps': (checkpoint + 1) * STEPS_PER_CHECKPOINT}, rows)

    def weights(state: State, problem: Problem, queries: Query) -> np.ndarray:
        network: Network = {
            name.removeprefix('network.'): leaf
            for name, leaf in state.items()
            if name.startswith('network.')
        }
        known = _coordinates(problem, queries.source)
        x = known.queries.astype(np.float32)
        y = jax.vmap(apply_network, (0, 1), 1)(network, x)
        return _weights_of(np.asarray(y, np.float64), known.inverse)

    layout = {
        'network.bias': numbers('G H'),
        'network.hidden': numbers('G A-1 H'),
        'network.out': numbers('G H A-1'),
    }
    return Solver(fit, weights, layout)


_loo_r2 = on_host(ridge.loo_r2)


def _train(key: jax.Array, x: np.ndarray, y: np.ndarray) -> Network:
    """Trains one network per row of the leading axis; leaves [CHECKPOINTS, G, ...]."""
    keys = jax.random.split(key, len(x))
    return train_networks(keys, x.astype(np.float32), y.astype(np.float32), CHECKPOINTS)


def _weights_of(prediction: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Turns predicted coordinates float64[..., G, A - 1] into weights of the anchors."""
    mean = 1.0 / inverse.shape[-2]
    return mean + np.einsum('gij,...gj->...gi', inverse, prediction)


def _left_out_candidates(key: jax.Array, problem: Problem) -> np.ndarray:
    """Returns float64[checkpoints, G, A, A], weights of folds that never saw their anchor."""
    rows = np.zeros((CHECKPOINTS, *problem.source.shape))
    others, problems, queries = folds(problem)
    known = _coordinates(problems, queries.source)
    for i, members in enumerate(others):
        networks = _train(key, known.x[i], known.y[i])
        predicted = _apply_checkpoints(networks, known.queries[i].astype(np.float32))
        rows[:, :, i, members] = _weights_of(np.asarray(predicted, np.float64), known.inverse[i])
    return rows


@jax.jit
def _apply_checkpoints(networks: Network, x: Array) -> jax.Array:
    """Answers float32[checkpoints, G, A - 1] of networks at one query of each group."""
    return jax.vmap(jax.vmap(apply_network), (0, None))(networks, x)
