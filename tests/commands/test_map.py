"""Pairs of adapters become a mapping that `translate` reads."""

import json
import pathlib

import numpy as np
import pytest

from lorajax import io, lora, mapping, models
from lorajax.errors import ArgumentError, InputError
from lorajax.mapping.pairs import SIDES
from lorajax.models import config as config_lib
from tests.commands import toy_adapters
from tests.commands.command_line import run
from tests.distillation.toy_teacher import known_rows


@pytest.fixture
def pairs(tmp_path):
    for seed in range(4):
        for side in ('source', 'target'):
            toy_adapters.write(tmp_path / f'pairs/t{seed}/{side}', side, seed, f'a/{side}')
    return tmp_path


def test_map_then_translate_predicts_what_the_library_predicts(pairs):
    run('map', f'--pairs={pairs}/pairs', f'--output={pairs}/mapping', '--method=delta_ridge')
    toy_adapters.write(pairs / 'query', 'source', 9, 'a/source')
    run('translate', f'--mapping={pairs}/mapping', f'--adapter={pairs}/query',
        f'--output={pairs}/out')  # fmt: skip
    anchors = [
        {f't{seed}': toy_adapters.draw(side, seed) for seed in range(4)}
        for side in ('source', 'target')
    ]
    expected = mapping.fit('delta_ridge', *anchors).predict(toy_adapters.draw('source', 9))
    config, actual = lora.load_peft(pairs / 'out')
    assert config.base_model == 'a/target'
    for name, entry in expected['layers'].items():
        delta = np.einsum('lir,lro->lio', entry['a'], entry['b'])
        other = actual['layers'][name]
        np.testing.assert_allclose(
            np.einsum('lir,lro->lio', other['a'], other['b']), delta, atol=1e-5
        )


def test_every_file_of_a_mapping_has_its_sum(pairs):
    run('map', f'--pairs={pairs}/pairs', f'--output={pairs}/mapping', '--method=mean')
    io.check_sums(pairs / 'mapping')
    listed = (pairs / 'mapping' / 'SHA256SUMS').read_text()
    for path in pathlib.Path(pairs / 'mapping').rglob('*'):
        if path.is_file() and path.name != 'SHA256SUMS':
            assert path.relative_to(pairs / 'mapping').as_posix() in listed


def test_bad_input_leaves_nothing(pairs):
    output = f'--output={pairs}/mapping'
    with pytest.raises(InputError, match='delta_ridge'):
        run('map', f'--pairs={pairs}/pairs', output, '--method=delta_rigde')
    with pytest.raises(InputError, match='nowhere'):
        run('map', f'--pairs={pairs}/nowhere', output)
    with pytest.raises(ArgumentError, match='exists already'):
        run('map', f'--pairs={pairs}/pairs', f'--output={pairs}/pairs')
    assert not (pairs / 'mapping').exists()


def test_shapes_that_differ_within_a_side_are_named(pairs):
    directory = pairs / 'pairs' / 't2' / 'target'
    wide = lora.pad_rank(toy_adapters.draw('target', 5), 3)
    lora.save_peft(directory, lora.LoraConfig(rank=3, alpha=3, base_model='a/target'), wide)
    with pytest.raises(InputError, match=r't2.*q_proj'):
        run('map', f'--pairs={pairs}/pairs', f'--output={pairs}/mapping', '--method=mean')
    assert not (pairs / 'mapping').exists()


def write_with_peft(directory, base, seed, rank=2):
    """Saves a random adapter of a base model as peft does."""
    peft, torch = pytest.importorskip('peft'), pytest.importorskip('torch')
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(lora.TARGETS),
                             init_lora_weights=False)  # fmt: skip
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(directory)


@pytest.fixture(scope='module')
def bases(tmp_path_factory):
    pytest.importorskip('torch')
    from tests.models import reference

    root = tmp_path_factory.mktemp('bases')
    for side, family in (('source', 'qwen2'), ('target', 'llama')):
        reference.make(root / side, family)
    return {side: root / side for side in SIDES}


@pytest.fixture(scope='module')
def collection(bases, tmp_path_factory):
    root = tmp_path_factory.mktemp('pairs')
    for seed in range(4):
        for side, base in bases.items():
            write_with_peft(root / f'task{seed}' / side, base, seed)
    write_with_peft(root.parent / 'query', bases['source'], 9)
    return root


@pytest.mark.parity
def test_map_then_translate_adapters_of_peft_and_run_the_result_in_peft(
    collection, bases, tmp_path
):
    peft, torch = pytest.importorskip('peft'), pytest.importorskip('torch')
    run('map', f'--pairs={collection}', f'--output={tmp_path}/mapping')
    assert io.read_json(tmp_path / 'mapping' / 'bases.json') == {
        side: str(path) for side, path in bases.items()
    }
    query = collection.parent / 'query'
    out = tmp_path / 'out'
    run('translate', f'--mapping={tmp_path}/mapping', f'--adapter={query}', f'--output={out}')
    assert 'base_model:' in (out / 'README.md').read_text()
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(bases['target'])
    tokens = torch.arange(3, 15)[None]
    with torch.no_grad():
        before = plain(tokens).logits
        wrapped = peft.PeftModel.from_pretrained(plain, out)
        after = wrapped(tokens).logits.numpy()
    model = models.load_model(str(bases['target']))
    mine = lora.load_peft(out, config_lib.read(bases['target']).num_layers)[1]
    expected = np.asarray(model.logits(tokens.numpy().astype(np.int32), adapter=mine))
    assert np.abs(after - before.numpy()).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-4 * np.abs(expected).max())


def test_with_rows_left_out_pairs_choose_the_method_and_say_what_to_expect(pairs):
    rows = pairs / 'rows'
    rows.mkdir()
    known = [{'prompt': row.prompt, 'completion': row.answer} for row in known_rows(4)]
    for task in ('t0', 't2'):
        (rows / f'{task}.jsonl').write_text('\n'.join(map(json.dumps, known)))
    model = ('--target_model=toy-target', '--max_len=32', '--dtype=float32')
    line = ['map', f'--pairs={pairs}/pairs', f'--rows={rows}', f'--output={pairs}/mapping']
    run(*line, *model)
    fitted = mapping.load(pairs / 'mapping')
    losses = fitted.diagnostics['functional']
    assert list(losses) == ['t0', 't2'] and fitted.method in mapping.CANDIDATES
    run(*line[:-1], f'--output={pairs}/other', '--method=zero', *model)
    zero = mapping.load(pairs / 'other').diagnostics['functional']
    assert all(row['left_out'] == pytest.approx(row['none'], abs=1e-5) for row in zero.values())
    assert zero['t0']['own'] == losses['t0']['own']


@pytest.mark.parametrize(
    ('flags', 'line'),
    [
        (['--method=theseus'], 'method theseus: needs both base models, which a run has'),
        (['--method=span_oracle'], 'method span_oracle: needs the true target adapter'),
        (['--rows=.'], 'target_model: is missing, rows needs it'),
        (['--target_model=toy-target'], 'rows: is missing, target_model needs it'),
        (
            ['--rows={}/pairs', '--target_model=toy-target'],
            'holds no file of a pair, such as t0',
        ),
    ],
)
def test_what_goes_together_is_asked_for_together(pairs, flags, line):
    output = f'--output={pairs}/mapping'
    with pytest.raises(ArgumentError, match=line):
        run('map', f'--pairs={pairs}/pairs', output, *[flag.format(pairs) for flag in flags])
    assert not (pairs / 'mapping').exists()
