"""Package metadata of lorajax."""

import pathlib
import re

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (HERE / 'lorajax/__init__.py').read_text()).group(1)

# jax and flax are pinned together: flax 0.12.8 reads jax internals that jax 0.11.1 removed,
# and the measurements in docs/results.md were taken with this pair.
JAX = '0.10.2'


class BuildWithFlagfiles(build_py):
    """Puts launch/*.flags into the package, so that an installed one has them."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = pathlib.Path(self.build_lib, 'lorajax', 'flagfiles')
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted((HERE / 'launch').glob('*.flags')):
            self.copy_file(str(path), str(target / path.name))


setup(
    name='lorajax',
    version=VERSION,
    description='Translate LoRA adapters from one base model to another, in JAX',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['lorajax', 'lorajax.*']),
    package_data={
        'lorajax.toy': ['checkpoints/*/*'],
        'lorajax.report': ['templates/*'],
    },
    install_requires=[
        f'jax=={JAX}',
        'flax==0.12.8',
        'optax>=0.2.8,<0.3',  # AdamW and schedules
        'orbax-checkpoint>=0.12,<0.13',  # resumable training state
        'transformers>=5.0,<6',  # tokenizers and chat templates; no torch is imported
        'tokenizers>=0.22,<1',  # trains the tokenizer of the toy world
        'datasets>=4.0',  # benchmark rows, from the hub or from files
        'huggingface_hub>=1.0',  # model files by hub id
        'safetensors>=0.6',  # weights and adapters on disk
        'ml_dtypes>=0.5',  # bfloat16 on the host
        'numpy>=2.0',
        'scipy>=1.13',  # exact tests and intervals; triangular and non-negative solves
        'regex',  # expressions of foreign adapters, with a time limit; transformers brings it
        'math-verify[antlr4-13-2]>=0.9,<0.10',  # LaTeX of answers, into sympy trees
        'sympy>=1.13',  # the trees of math-verify are evaluated here
        'threadpoolctl>=3.5',  # mapping: one BLAS thread for each tensor at work
        'scikit-learn>=1.5',  # reference for the closed forms; text vectors of the overlap check
        'chex>=0.1.90',  # static shape checks inside jit
        'absl-py>=2.1',  # flags, flagfiles, logging
        'matplotlib>=3.9',  # figures of the report
        'tqdm>=4.66',  # progress bars
        'jinja2>=3.1',  # report templates; transformers' chat templates need it too
    ],
    extras_require={
        'cuda': [f'jax[cuda12]=={JAX}'],
        'tpu': [f'jax[tpu]=={JAX}'],
        'metrics': ['tensorboardX>=2.6', 'wandb>=0.18'],  # where --report_to shows losses
        'test': [
            'tensorboardX>=2.6',
            'wandb>=0.18',
            'torch==2.13.0',  # transformers and peft as the independent reference
            'peft>=0.18',
            'pytest>=8',
            'pytest-xdist>=3.6',
            'ruff==0.17.6',
            'mypy==2.4.1',
        ],
    },
    cmdclass={'build_py': BuildWithFlagfiles},
    entry_points={'console_scripts': ['lorajax = lorajax.launch:main']},
    classifiers=[
        'Programming Language :: Python :: 3',
    ],
)
