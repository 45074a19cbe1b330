"""Small synthetic worlds of paired adapters."""

import numpy as np

SOURCE = {'q_proj': (4, 20, 12), 'v_proj': (4, 20, 8)}  # layers, in, out
TARGET = {'q_proj': (3, 24, 16), 'v_proj': (3, 24, 10)}


def make_side(key, shapes, latents, rank, shared_a=True, noise=0.1):
    """Adapters whose b is linear in a task's latents; a is the shared init plus a little."""
    rng = np.random.default_rng(key)
    adapters = {task: {'layers': {}} for task in latents}
    for projection, (layers, n_in, n_out) in shapes.items():
        init = rng.normal(size=(layers, n_in, rank))
        directions = rng.normal(size=(len(next(iter(latents.values()))), layers, rank, n_out))
        for task, latent in latents.items():
            start = init if shared_a else rng.normal(size=init.shape)
            a = start + 0.1 * noise * rng.normal(size=init.shape)
            b = np.tensordot(latent, directions, 1) + noise * rng.normal(size=directions.shape[1:])
            adapters[task]['layers'][projection] = {
                'a': a.astype(np.float32),
                'b': b.astype(np.float32),
            }
    return adapters


def make_world(key=0, tasks=8, latents=3, source_rank=2, target_rank=3, **options):
    """Returns source and target adapters of `tasks` anchors, task -> tree."""
    rng = np.random.default_rng(key)
    latent = {f'task{t}': rng.normal(size=latents) + 0.5 for t in range(tasks)}
    return (
        make_side(key + 1, SOURCE, latent, source_rank, **options),
        make_side(key + 2, TARGET, latent, target_rank, **options),
    )


def split(adapters, *held_out):
    """Returns the adapters without and with the given tasks."""
    rest = {task: tree for task, tree in adapters.items() if task not in held_out}
    return rest, {task: adapters[task] for task in held_out}


def dense(adapter):
    """All updates of an adapter as one vector, float64."""
    return np.concatenate(
        [
            np.einsum('lir,lro->lio', f['a'].astype(np.float64), f['b'].astype(np.float64)).ravel()
            for f in adapter['layers'].values()
        ]
    )


def flat(adapter):
    """All factors of an adapter as one vector, float64."""
    leaves = [leaf for f in adapter['layers'].values() for leaf in (f['a'], f['b'])]
    return np.concatenate([leaf.ravel().astype(np.float64) for leaf in leaves])


def regauged(adapter, key=0):
    """The same updates in another gauge: a M, M^-1 b with a random M per tensor."""
    rng = np.random.default_rng(key)
    layers = {}
    for projection, f in adapter['layers'].items():
        rank = f['a'].shape[-1]
        m = rng.normal(size=(len(f['a']), rank, rank)) + 3 * np.eye(rank)
        layers[projection] = {
            'a': (f['a'] @ m).astype(np.float32),
            'b': np.linalg.solve(m, f['b']).astype(np.float32),
        }
    return {'layers': layers}


def changed(adapter, change):
    """The adapter with a function of every b in its place."""
    return {'layers': {p: {'a': f['a'], 'b': change(f['b'])} for p, f in adapter['layers'].items()}}
