"""The examples are run as they stand, on pairs that are made up."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lorajax import lora, toy
from lorajax.models import config as config_lib
from lorajax.models import merge_and_save
from lorajax.tasks.data import DataSource
from lorajax.toy.language import TASKS
from tests.models.identities import random_adapter

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / 'examples'
TASK = 'toy_science_keep_3'


def save(directory, side, seed):
    """Writes a random adapter of a toy model, small enough to leave its answers alone."""
    tree = random_adapter(config_lib.read(toy.MODELS[f'toy-{side}']), seed, ('q_proj', 'v_proj'))
    for entry in tree['layers'].values():
        entry['b'] *= 1e-3
    config = lora.LoraConfig(rank=3, alpha=3, targets=tuple(tree['layers']))
    lora.save_peft(directory, config, tree, base_model=f'toy-{side}')


def cells():
    """The sources of the notebook's code cells."""
    content = json.loads((EXAMPLES / 'translate.ipynb').read_text())
    return [''.join(c['source']) for c in content['cells'] if c['cell_type'] == 'code']


def test_the_notebook_goes_from_pairs_to_a_checked_adapter(tmp_path, monkeypatch, capsys):
    for seed, task in enumerate(['a', 'b', 'c', 'd', TASK]):
        for side in ('source', 'target'):
            save(tmp_path / 'adapters' / side / task, side, seed)
    rows = (EXAMPLES / 'lm_eval' / f'{TASK}.jsonl').read_text().splitlines()[:3]
    (tmp_path / 'rows.jsonl').write_text('\n'.join(rows))
    monkeypatch.setenv('LORAJAX_RUN', str(tmp_path))
    monkeypatch.setenv('LORAJAX_ROWS', str(tmp_path / 'rows.jsonl'))
    scope = {}
    for cell in cells():
        exec(cell, scope)
    assert scope['anchors'] == ['a', 'b', 'c', 'd']
    assert scope['scores'].keys() == {'no adapter', 'translated', 'retrained'}
    written = lora.load_peft(tmp_path / 'translated' / TASK)
    assert written.config.base_model == 'toy-target'
    expected = scope['fitted'].predict(lora.load_peft(tmp_path / 'adapters/source' / TASK).tree)
    np.testing.assert_allclose(
        written.tree['layers']['q_proj']['b'], expected['layers']['q_proj']['b'], atol=1e-7
    )
    assert 'translated' in capsys.readouterr().out


def test_the_notebook_shows_what_a_real_run_gave():
    content = json.loads((EXAMPLES / 'translate.ipynb').read_text())
    shown = ''.join(
        ''.join(output['text']) for c in content['cells'] for output in c.get('outputs', [])
    )
    assert '16 pairs' in shown and 'translated   0.' in shown


def test_the_rows_for_the_harness_are_those_of_the_toy_task():
    pools = TASKS[TASK].pools(DataSource(None), 'direct')
    expected = [{'prompt': e.prompt, 'answer': e.answer} for e in pools.eval[:50]]
    lines = (EXAMPLES / 'lm_eval' / f'{TASK}.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected


@pytest.mark.skipif(importlib.util.find_spec('lm_eval') is None, reason='needs lm_eval[hf]')
def test_the_harness_evaluates_a_merged_model(tmp_path):
    save(tmp_path / 'adapter', 'target', 0)
    merge_and_save(toy.MODELS['toy-target'], tmp_path / 'adapter', tmp_path / 'merged')
    subprocess.run(
        [sys.executable, '-m', 'lm_eval', 'run', '--model=hf',
         f'--model_args=pretrained={tmp_path}/merged', f'--tasks={TASK}',
         '--include_path=examples/lm_eval', '--device=cpu', '--limit=2', '--apply_chat_template',
         f'--output_path={tmp_path}/out'],
        cwd=ROOT, check=True, env={**os.environ, 'HF_DATASETS_OFFLINE': '1'},
    )  # fmt: skip
    (found,) = tmp_path.glob('out/*/results*.json')
    assert 'exact_match,stripped' in json.loads(found.read_text())['results'][TASK]
