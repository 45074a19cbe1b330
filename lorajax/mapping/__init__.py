"""Translation of adapters from one base model to another.

    mapping = lorajax.mapping.fit('matched_scaled', source_adapters, target_adapters)
    target_adapter = mapping.predict(source_adapter)
    mapping.save(directory)

From the files that know only arrays to those that know everything: gram, ridge, align, bilinear
(mathematics); subspace, anchors (adapters); rules, topk, pca, mlp, weighing, matched (weights
of the anchors); span, blend, direct, anchored (families of mappings); methods, storage, transfer.
"""

from lorajax.mapping.anchors import Anchors
from lorajax.mapping.api import TransferMap, fit, load
from lorajax.mapping.methods import METHODS, Method, method_named
from lorajax.mapping.options import Options
from lorajax.mapping.state import Prediction

__all__ = [
    'METHODS',
    'Anchors',
    'Method',
    'Options',
    'Prediction',
    'TransferMap',
    'fit',
    'load',
    'method_named',
]
