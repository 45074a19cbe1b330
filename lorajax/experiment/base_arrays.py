"""Weights and activations of the two base models, for the mappings that look at them."""

from collections.abc import Collection, Mapping

import numpy as np

from lorajax import processes
from lorajax.experiment import anchor_rows, models
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.mapping import similarity
from lorajax.models import Model, activations, quantized
from lorajax.models.hf import checkpoint
from lorajax.tasks.token_alignment import shared_positions


def collect(experiment: Experiment, needs: Collection[str]) -> dict[str, Mapping[str, np.ndarray]]:
    """Returns arrays of the base models by the names in `mapping.Method.needs`.

    Activations are taken on the anchors' training rows, as plain text: no held-out is read.
    """
    if not needs:
        return {}
    loaded = {side: models.load_side(experiment, side) for side in SIDES}
    arrays: dict[str, Mapping[str, np.ndarray]] = {}
    if any(need.endswith('_weights') for need in needs):
        for side, (model, _) in loaded.items():
            arrays[f'{side}_weights'] = kernels(model)
    if any(need.endswith(('_inputs', '_outputs')) for need in needs):
        rows = anchor_rows.interleaved(experiment)
        tokens, positions = shared_positions(
            [chat for _, chat in loaded.values()],
            [f'{row.prompt}\n{row.answer}' for row in rows],
            experiment.max_len,
            experiment.activation_places,
        )
        for i, (side, (model, _)) in enumerate(loaded.items()):
            texts = [text.ids for text in tokens[i]]
            inputs, outputs = activations.collect(model, texts, positions[i])
            arrays[f'{side}_inputs'], arrays[f'{side}_outputs'] = inputs, outputs
    return arrays


def weight_cosine(source: str, target: str) -> float:
    """Returns `similarity.weight_cosine` of two models by name, from three layers of each.

    Their files are mapped and neither model is loaded, so it takes seconds at 3B size.

    Raises:
      InputError: if a model's files cannot be used.
    """
    return similarity.weight_cosine(*(_some_kernels(name) for name in (source, target)))


def _some_kernels(name: str) -> dict[str, np.ndarray]:
    """Returns the first, a middle and the last layer of each projection, [3, out, in] by name."""
    config = models.read_config(name)
    tensors = {
        (target.path, target.layer): stored.value
        for target, stored in checkpoint.find_tensors(models.resolve(name), config).items()
    }
    chosen = (0, config.num_layers // 2, config.num_layers - 1)
    return {
        projection: np.stack([tensors[f'layers/{projection}/kernel', layer] for layer in chosen])
        for projection in config.projections
    }


def kernels(model: Model) -> dict[str, np.ndarray]:
    """Returns a model's projections, [L, in, out] by name, on the host.

    Views with swapped axes, so that a layer is copied when a mapping looks at it.
    """
    layers = model.params['layers']
    found = {p: processes.to_host(layers[p]) for p in model.config.projections}
    return {
        name: quantized.dense(entry['kernel'], entry.get(quantized.SCALE)).swapaxes(1, 2)
        for name, entry in found.items()
    }
