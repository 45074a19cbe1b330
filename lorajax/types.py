"""Trees that travel between the parts, and the letters used for their axes.

Axis letters, in every comment and docstring:

  B batch            T query length      S key/value (cache) length
  L layers           D model width       F MLP hidden width       V vocabulary
  N query heads      K key/value heads   G query heads per key/value head (N / K)
  H head dim         R LoRA rank         A number of adapters
  X, Y source / target features of one mapping problem
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray

# Base weights: nested dict of arrays, per-layer leaves stacked on a leading L axis.
Params = dict[str, Any]

# {'layers': {projection: {'a': float32[L, in, R], 'b': float32[L, R, out]}}}; the update of
# a projection's kernel [out, in] is (a @ b).T (alpha / rank is already folded into b). A subset
# of the projections, or none, is an adapter too.
Adapter = dict[str, Any]

JsonDict = dict[str, Any]
ReadOnlyJson = Mapping[str, Any]
