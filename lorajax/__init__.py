"""lorajax translates LoRA adapters from one base model to another, in JAX.

Importing this package is cheap: the packages below it (`lorajax.models`, `lorajax.lora`,
`lorajax.mapping`, `lorajax.evaluation`, ...) load on first use.
"""

import importlib
from typing import Any

__version__ = '0.1.0'

_PACKAGES = (
    'commands', 'distillation', 'evaluation', 'experiment', 'io', 'lora', 'mapping', 'models',
    'report', 'sandbox', 'stories', 'tasks', 'text', 'toy', 'training',
)  # fmt: skip
# Where the names stand that are reached without a package.
_NAMES = {'load_model': 'lorajax.tasks.text_model'}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f'lorajax.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_NAMES})
