"""What a name in a table of outcomes stands for: a learned map, a reference, a training.

`mapping.METHODS` says of each mapping whether it counts as learned; here stand the names that
are no mapping.
"""

from lorajax.mapping import METHODS

# Methods that train on the target, on answers of the source: more than a map.
TRAINED_METHODS = ('distilled',)

# Methods that learn no map from source to target: they never count as 'learned', so the
# headline cannot be won by one of them.
REFERENCE_METHODS = (
    'base',
    'oracle',
    *(name for name, method in METHODS.items() if not method.is_learned),
    *TRAINED_METHODS,
)
