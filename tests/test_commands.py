"""The commands beside `run`, called as the command line calls them."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from lorajax import capacity, commands, lora, mapping, pipeline, toy, workdir
from lorajax.errors import InputError
from lorajax.experiment import Experiment
from lorajax.models import config as config_lib
from lorajax.models import llama3, qwen2

SMALL = Experiment(lora_rank=2, batch_size=4, num_epochs=2, eval_per_task=5, eval_batch_size=5)


def args(**values):
    names = ('mapping', 'adapter', 'output', 'model', 'task', 'train_file', 'adapters', 'tasks')
    given = (
        dict.fromkeys((*names, 'prompt', 'pairs', 'method'), None) | {'temperature': 0.0} | values
    )
    return types.SimpleNamespace(**{k: str(v) if v and k == 'output' else v
                                    for k, v in given.items()})  # fmt: skip


def random_adapter(side, seed):
    config = config_lib.read(toy.MODELS[f'toy-{side}'])
    key = jax.random.key(seed)
    fresh = lora.init_adapter(key, config.projections, config.num_layers, 2, lora.TARGETS)
    return jax.tree.map(lambda x: np.asarray(x + 0.1 * jax.random.normal(key, x.shape)), fresh)


@pytest.fixture
def translation(tmp_path):
    """A fitted mapping and a source adapter on disk."""
    anchors = [
        {f't{seed}': random_adapter(side, seed) for seed in range(4)}
        for side in ('source', 'target')
    ]
    fitted = mapping.fit('delta_ridge', *anchors)
    fitted.save(tmp_path / 'mapping')
    bases = {'source': 'a/source', 'target': 'a/target'}
    workdir.write_json(tmp_path / 'mapping' / pipeline.PROVENANCE, bases)
    query = random_adapter('source', 9)
    config = lora.LoraConfig(rank=2, alpha=2, base_model='a/source')
    lora.save_peft(tmp_path / 'query', config, query)
    return tmp_path, fitted.predict(query)


def test_translate_writes_what_the_mapping_predicts(translation):
    root, expected = translation
    given = args(mapping=root / 'mapping', adapter=root / 'query', output=root / 'out')
    commands.translate(SMALL, given)
    config, actual = lora.load_peft(root / 'out')
    assert config.base_model == 'a/target'
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), actual, expected)
    card = (root / 'out' / 'README.md').read_text()
    assert "base_model: 'a/target'" in card and str(root / 'query') in card
    # Random adapters have nothing in common, so their translation deserves the warning or none
    # according to the distances alone.
    fitted = mapping.load(root / 'mapping')
    report = fitted.explain(lora.load_peft(root / 'query')[1]).report
    farthest = max(fitted.diagnostics['anchor_span_distances'])
    assert ('Warning' in card) == (report['distance_to_span'] > farthest)
    with pytest.raises(InputError, match='exists already'):
        commands.translate(SMALL, given)


def test_translate_refuses_an_adapter_of_another_base(translation):
    root, _ = translation
    path = root / 'query' / 'adapter_config.json'
    path.write_text(path.read_text().replace('a/source', 'b/other'))
    with pytest.raises(InputError, match=r'belongs to b/other, .* adapters of a/source'):
        commands.translate(
            SMALL, args(mapping=root / 'mapping', adapter=root / 'query', output=root / 'out')
        )
    assert not (root / 'out').exists()


def test_train_then_evaluate_then_generate(tmp_path, capsys):
    rows = [
        {'prompt': 'code ? ? ca cb cc cd', 'completion': 'cf cg ch ci'},
        {'messages': [{'role': 'user', 'content': 'code ? ? cb cb cc cd'},
                      {'role': 'assistant', 'content': 'cg cg ch ci'}]},
    ]  # fmt: skip
    file = tmp_path / 'mine.jsonl'
    file.write_text('\n'.join(map(json.dumps, rows)))
    many = dataclasses.replace(SMALL, num_epochs=60, learning_rate=2e-2)
    commands.train(many, args(model='toy-target', train_file=str(file), output=tmp_path / 'out'))
    commands.generate(
        dataclasses.replace(SMALL, max_new_tokens=8),
        args(model='toy-target', adapter=str(tmp_path / 'out'), prompt='code ? ? ca cb cc cd'),
    )
    assert capsys.readouterr().out.split() == ['cf', 'cg', 'ch', 'ci']
    commands.evaluate(
        SMALL,
        args(
            model='toy-target',
            adapters=[str(tmp_path / 'out')],
            tasks=['toy_code_keep_5'],
            output=tmp_path / 'rows.jsonl',
        ),
    )
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[1] for line in lines] == ['base', str(tmp_path / 'out')]
    assert len(workdir.read_jsonl(tmp_path / 'rows.jsonl')) == 10


def test_doctor_counts_what_shapes_say():
    experiment = dataclasses.replace(
        SMALL, param_dtype='bfloat16', lora_rank=16, adapters_per_step=1, mesh=(1, 1, 1)
    )
    for config, factors in ((qwen2.QWEN2_5_3B, 29_933_568), (llama3.LLAMA3_2_3B, 24_313_856)):
        parts = capacity.training_bytes(experiment, config)
        assert parts['params'] == 2 * config.num_params
        assert parts['adapters'] == 16 * factors
    assert any('fits' in line for line in capacity.describe(SMALL))
