"""Translation of adapters from one base model to another.

    mapping = lorajax.mapping.fit('matched_scaled', source_adapters, target_adapters)
    target_adapter = mapping.predict(source_adapter)
    mapping.save(directory)

From the files that know only arrays to those that know everything: compiling, float64,
tensor_loop (how to compute); gram, ridge, bilinear, subspace (mathematics); shapes, anchors,
queries (adapters); solvers, topk, pca, mlp, layer_alignment, kernel_alignment, anchor_weights
(weights of the anchors); combination, bilinear_part, stacking, baselines (families of mappings);
methods; manifest, integrity, storage (files); api.
"""

from lorajax.mapping.anchors import Anchors, read_pair
from lorajax.mapping.api import TransferMap, fit, load
from lorajax.mapping.methods import (
    CANDIDATES,
    DEFAULT,
    METHODS,
    Method,
    method_named,
    weighting_method,
)
from lorajax.mapping.options import BaseModelArrays, Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.state import Prediction

__all__ = [
    'CANDIDATES',
    'DEFAULT',
    'METHODS',
    'Anchors',
    'BaseModelArrays',
    'Method',
    'Options',
    'Prediction',
    'Queries',
    'TransferMap',
    'fit',
    'load',
    'method_named',
    'read_pair',
    'weighting_method',
]
