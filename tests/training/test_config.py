"""The recipe: what it refuses, and whose defaults it has."""

import dataclasses
import re

import pytest

from lorajax.errors import ArgumentError
from lorajax.training import TrainConfig


@pytest.mark.parametrize(
    ('name', 'value', 'expected'),
    [
        ('schedule', 'sine', 'cosine, linear, constant'),
        ('batch_size', 0, 'at least 1'),
        ('checkpoint_every', 0, 'at least 1'),
        ('warmup_ratio', 1.5, '0 to 1'),
        ('warmup_ratio', -0.1, '0 to 1'),
    ],
)
def test_values_out_of_range_are_refused_by_the_argument_name(name, value, expected):
    with pytest.raises(ArgumentError, match=expected) as caught:
        TrainConfig(**{name: value})
    assert (caught.value.argument, caught.value.value) == (name, value)


def test_the_scale_is_that_of_the_lora_paper():
    assert TrainConfig(rank=8, alpha=4.0).scale == 0.5


@pytest.mark.parity
def test_the_defaults_of_trainer_and_peft_are_what_the_docstring_says():
    peft = pytest.importorskip('peft')
    transformers = pytest.importorskip('transformers')
    theirs = {
        f.name: f.default
        for cls in (transformers.TrainingArguments, peft.LoraConfig)
        for f in dataclasses.fields(cls)
    }
    names = {
        'num_epochs': 'num_train_epochs', 'batch_size': 'per_device_train_batch_size',
        'schedule': 'lr_scheduler_type', 'warmup_ratio': 'warmup_steps', 'beta1': 'adam_beta1',
        'beta2': 'adam_beta2', 'epsilon': 'adam_epsilon', 'rank': 'r', 'alpha': 'lora_alpha',
    }  # fmt: skip
    text = ' '.join(TrainConfig.__doc__.split())
    claims = re.findall(r' (\w+): [^:]*?\((?:Trainer|PEFT): ([^,) ]+)', text)
    assert len(claims) == 14
    same = set()
    for name, claim in claims:
        ours = getattr(TrainConfig(), name)
        if name == 'targets':
            mapping = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
            assert mapping['qwen2'] == mapping['llama'] == ['q_proj', 'v_proj']
            continue
        value = theirs[names.get(name, name)]
        if claim == 'the':  # same
            assert ours == value, name
            same.add(name)
        else:
            assert float(claim) == value != ours, name
    assert same == {
        'num_epochs', 'batch_size', 'schedule', 'weight_decay', 'beta1', 'beta2', 'epsilon',
        'max_grad_norm',
    }  # fmt: skip
    assert theirs['lora_dropout'] == 0.0
