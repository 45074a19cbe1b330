"""A sweep is read line by line, and a wrong line is named."""

import pytest

from lorajax.errors import InputError
from lorajax.experiment import sweep
from lorajax.experiment.config import Experiment


def test_a_line_changes_what_it_names(tmp_path):
    path = tmp_path / 'sweep.jsonl'
    path.write_text(
        '{"name": "wide", "lora_rank": 32, "lora_targets": ["q_proj", "v_proj"]}\n'
        '{"name": "fast-1e-3", "learning_rate": 1e-3}\n'
    )
    experiment = Experiment(lora_alpha=16.0)
    found = sweep.read(path, experiment)
    assert list(found) == ['wide', 'fast-1e-3']
    assert found['wide'].train_config.rank == 32 and found['wide'].train_config.alpha == 16
    assert found['wide'].lora_targets == ('q_proj', 'v_proj')
    assert found['fast-1e-3'].learning_rate == 1e-3 and found['fast-1e-3'].lora_rank == 4


@pytest.mark.parametrize(
    ('line', 'problem'),
    [
        ('{"lora_rank": 3}', 'lacks name'),
        ('{"name": "../x"}', "name is '../x'"),
        ('{"name": "good"}', "name is 'good'.*no name twice"),
        ('{"name": "b", "weight_decay": 0.1}', 'weight_decay: expected some of learning_rate'),
        ('{"name": "b", "lora_rank": 0}', 'lora_rank.*at least 1'),
        ('{"name": "b", "lora_targets": ["w"]}', 'lora_targets'),
        ('[]', 'object'),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, problem):
    path = tmp_path / 'sweep.jsonl'
    path.write_text(f'{{"name": "good"}}\n{line}\n')
    with pytest.raises(InputError, match=rf'sweep\.jsonl:2: .*{problem}'):
        sweep.read(path, Experiment())


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / 'sweep.jsonl'
    path.write_text('')
    with pytest.raises(InputError, match='has no lines'):
        sweep.read(path, Experiment())
