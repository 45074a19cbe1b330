"""A target adapter is trained on answers; no answer of the prompts' file is read."""

import json

import numpy as np
import pytest

from lorajax import lora, mapping, toy
from lorajax.errors import ArgumentError
from lorajax.experiment import tasks
from lorajax.models import load_model
from tests.commands import toy_adapters
from tests.commands.command_line import run

TASK = 'toy_code_keep_5'


@pytest.fixture
def call(tmp_path):
    # Small, so that the source model ends its answers as it was taught.
    toy_adapters.write(tmp_path / 'adapter', 'source', 3, 'toy-source', size=0.01)
    rows = [{'prompt': e.prompt} for e in tasks.get(TASK).pools(None, 'direct').train[:6]]
    rows.append({'messages': [{'role': 'user', 'content': rows[0]['prompt']}]})
    (tmp_path / 'prompts.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    return [
        'distill', '--source_model=toy-source', '--target_model=toy-target',
        f'--adapter={tmp_path}/adapter', f'--prompts={tmp_path}/prompts.jsonl',
        f'--output={tmp_path}/out', '--lora_rank=2', '--num_epochs=1', '--batch_size=4',
        '--eval_batch_size=4', '--max_new_tokens=40', '--max_len=64', '--dtype=float32',
    ]  # fmt: skip


def test_an_adapter_of_the_target_is_written(call, tmp_path):
    run(*call)
    config, adapter = lora.load_peft(tmp_path / 'out')
    assert config.base_model == 'toy-target' and config.rank == 2
    card = (tmp_path / 'out/README.md').read_text()
    assert 'Warning:** 7 prompts are few' in card and 'Warning:** 1 steps of training' in card
    assert '**Verdict: check first' in card and 'vllm serve toy-target' in card
    target = load_model(str(toy.MODELS['toy-target']))
    assert list(adapter['layers']) == list(lora.TARGETS)
    plain, changed = (target.logits(np.array([[3, 4, 5]]), adapter=a) for a in (None, adapter))
    assert np.abs(np.asarray(plain) - np.asarray(changed)).max() > 0
    with pytest.raises(ArgumentError, match='exists already'):
        run(*call)


def test_a_mapping_of_another_rank_is_refused_before_a_model_is_loaded(call, tmp_path):
    anchors = [
        {f't{seed}': toy_adapters.draw(side, seed) for seed in range(2)}
        for side in ('source', 'target')
    ]
    mapping.fit('mean', *anchors, output_rank=3).save(tmp_path / 'mapping')
    with pytest.raises(ArgumentError, match='lora_rank 2: the mapping predicts rank 3; give that'):
        run(*call, f'--mapping={tmp_path}/mapping')
    assert not (tmp_path / 'out').exists()


def test_both_models_must_be_named():
    with pytest.raises(ArgumentError, match='source_model: is missing'):
        run('distill', '--adapter=a', '--prompts=p', '--output=o')
