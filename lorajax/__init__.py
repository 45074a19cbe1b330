"""lorajax translates LoRA adapters from one base model to another, in JAX.

Importing this package is cheap: sub-packages (`lorajax.models`, `lorajax.lora`,
`lorajax.mapping`, `lorajax.evaluation`, ...) load on first use.
"""

import importlib
from types import ModuleType

__version__ = '0.1.0'

_SUBMODULES = (
    'distillation', 'evaluation', 'experiment', 'lora', 'mapping', 'models', 'report', 'sandbox',
    'tasks', 'toy', 'training',
)  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f'lorajax.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
