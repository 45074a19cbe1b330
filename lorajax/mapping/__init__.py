"""Translation of adapters from one base model to another.

mapping = lorajax.mapping.fit('delta_ridge', source_adapters, target_adapters)
target_adapter = mapping.predict(source_adapter)
mapping.save(directory)
"""

from lorajax.mapping.anchors import Anchors
from lorajax.mapping.transfer import METHODS, Method, TransferMap, fit, load, method_named

__all__ = ['METHODS', 'Anchors', 'Method', 'TransferMap', 'fit', 'load', 'method_named']
