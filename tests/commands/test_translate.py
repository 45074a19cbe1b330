"""A mapping turns adapters into adapters, refuses what is not its own, writes all or nothing."""

import json
import shutil

import jax
import numpy as np
import pytest

from lorajax import io, lora, mapping
from lorajax.distillation import ladder, material, self_prompts
from lorajax.distillation.trust import Trust
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import models
from lorajax.experiment.workdir import BASES
from lorajax.io import tensor_files
from tests.commands import toy_adapters
from tests.commands.command_line import run
from tests.distillation.toy_teacher import known_rows

# Adapters drawn at random have nothing in common, so harm may be predicted of what is made of them.
FORCE = '--force'


@pytest.fixture
def translation(tmp_path):
    """A fitted mapping and a source adapter on disk, and what the one makes of the other."""
    anchors = [
        {f't{seed}': toy_adapters.draw(side, seed) for seed in range(4)}
        for side in ('source', 'target')
    ]
    fitted = mapping.fit('delta_ridge', *anchors)
    fitted.save(tmp_path / 'mapping')
    io.write_json(tmp_path / 'mapping' / BASES, {'source': 'a/source', 'target': 'a/target'})
    query = toy_adapters.write(tmp_path / 'query', 'source', 9, 'a/source')
    return tmp_path, fitted.predict(query)


def translate(root, *arguments, adapter='query'):
    run('translate', f'--mapping={root}/mapping', f'--adapter={root}/{adapter}',
        f'--output={root}/out', *arguments)  # fmt: skip


def test_what_is_written_is_what_the_mapping_predicts(translation):
    root, expected = translation
    translate(root, FORCE)
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
    with pytest.raises(ArgumentError, match='exists already'):
        translate(root, FORCE)


def test_several_adapters_are_translated_at_once(translation, caplog):
    root, expected = translation
    toy_adapters.write(root / 'many' / 'one', 'source', 5, 'a/source')
    toy_adapters.write(root / 'many' / 'deep' / 'two', 'source', 6, 'a/source')
    toy_adapters.write(root / 'many' / 'other', 'target', 6, 'a/source')
    (root / 'many' / 'notes.txt').write_text('not an adapter')
    line = ['translate', f'--mapping={root}/mapping', f'--adapters={root}/many,{root}/query',
            f'--output={root}/out', FORCE]  # fmt: skip
    refused = '1 of 4 adapters were refused, other among them: .*many/other .of a/source.: query'
    with caplog.at_level('INFO', 'absl'), pytest.raises(InputError, match=refused) as error:
        run(*line)
    assert 'expected of the map' in caplog.text and 'rung reached' not in caplog.text
    assert str(root / 'out' / 'summary.json') in str(error.value)
    summary = json.loads((root / 'out' / 'summary.json').read_text())
    assert {name: row['status'] for name, row in summary.items()} == {
        'deep/two': 'written', 'one': 'written', 'other': 'refused', 'query': 'written',
    }  # fmt: skip
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        lora.load_peft(root / 'out' / 'query')[1],
        expected,
    )
    one, two = (lora.load_peft(root / 'out' / name)[1]['layers'] for name in ('one', 'deep/two'))
    assert not np.allclose(one['q_proj']['b'], two['q_proj']['b'])
    assert not (root / 'out' / 'other').exists() and not list(root.rglob('.partial-*'))
    with pytest.raises(ArgumentError, match='was begun with other settings'):
        run(*line, '--adapter_dtype=bfloat16')


def test_shards_divide_the_adapters_between_them(translation):
    root, _ = translation
    for seed, name in enumerate(('one', 'three', 'two')):
        toy_adapters.write(root / 'many' / name, 'source', seed, 'a/source')
    for index in (1, 0):
        run('translate', f'--mapping={root}/mapping', f'--adapters={root}/many', FORCE,
            f'--output={root}/out', '--num_shards=2', f'--shard_index={index}')  # fmt: skip
    summaries = [
        list(json.loads((root / 'out' / f'summary_{i}_of_2.json').read_text())) for i in (0, 1)
    ]
    assert summaries == [['one'], ['three', 'two']]
    assert all((root / 'out' / name / 'README.md').exists() for name in ('one', 'three', 'two'))
    with pytest.raises(ArgumentError, match='num_shards 2: divides several adapters'):
        translate(root, '--num_shards=2')


def test_the_dtype_asked_for_is_written(translation):
    root, _ = translation
    translate(root, FORCE, '--adapter_dtype=bfloat16')
    written = tensor_files.read(root / 'out' / 'adapter_model.safetensors')
    assert {value.dtype.name for value in written.values()} == {'bfloat16'}


def cut(projections, layers=slice(None)):
    def change(tree):
        return {
            'layers': {
                name: {key: leaf[layers] for key, leaf in tree['layers'][name].items()}
                for name in projections
            }
        }

    return change


Q = 'query adapter: q_proj: has'
EXPECTED = 'expected 4 layers of 64 to 64, rank 2'


@pytest.mark.parametrize(
    ('side', 'change', 'line'),
    [
        ('target', cut(lora.TARGETS), f'{Q} 3 layers of 96 to 96, rank 2, {EXPECTED}'),
        ('source', cut(lora.TARGETS, slice(3)), f'{Q} 3 layers of 64 to 64, rank 2, {EXPECTED}'),
        ('source', cut(['q_proj', 'v_proj']), 'query adapter: adapts q_proj, v_proj, the anchors '
         f'{", ".join(lora.TARGETS)}; expected the same projections'),
    ],
    ids=['widths', 'depth', 'projections'],
)  # fmt: skip
def test_shapes_of_another_base_are_refused(translation, side, change, line):
    root, _ = translation
    tree = change(toy_adapters.draw(side, 9))
    config = lora.LoraConfig(rank=2, alpha=2, base_model='a/source', targets=tuple(tree['layers']))
    lora.save_peft(root / 'other', config, tree)
    with pytest.raises(InputError) as error:
        translate(root, adapter='other')
    assert str(error.value) == f'{root}/other (of a/source): {line}'
    assert not (root / 'out').exists()


@pytest.mark.parametrize('text', ['[]', '{"source": "a/source"}'])
def test_a_mapping_without_its_bases_is_refused(translation, text):
    root, _ = translation
    path = root / 'mapping' / BASES
    path.write_text(text)
    with pytest.raises(InputError) as error:
        translate(root)
    assert str(error.value) == (
        f'{path}: is {json.loads(text)!r}, expected the names of source and target'
    )


def test_an_adapter_of_some_layers_has_the_others_too(translation):
    root, _ = translation
    config = lora.LoraConfig(rank=2, alpha=2, base_model='a/source', layers=(0, 2))
    tree = cut(lora.TARGETS, slice(3))(toy_adapters.draw('source', 9))
    for entry in tree['layers'].values():
        entry['b'][1] = 0
    lora.save_peft(root / 'some', config, tree)
    translate(root, FORCE, adapter='some')
    assert lora.load_peft(root / 'out')[1]['layers']['q_proj']['a'].shape[0] == 3


def test_an_adapter_of_another_base_needs_the_users_word(translation):
    root, _ = translation
    toy_adapters.write(root / 'other', 'source', 9, 'b/other')
    with pytest.raises(InputError, match=r'belongs to b/other, .* adapters of a/source; its shapes '
                       'fit: assume_source'):  # fmt: skip
        translate(root, adapter='other')
    with pytest.raises(InputError, match='belongs to b/other'):
        translate(root, '--assume_source=c/third', adapter='other')
    assert not (root / 'out').exists()
    toy_adapters.write(root / 'foreign', 'target', 9, 'b/other')
    with pytest.raises(InputError, match=r'b/other, .* shapes are of another base, too: query'):
        translate(root, adapter='foreign')
    translate(root, FORCE, '--assume_source=a/source', adapter='other')
    assert (root / 'out' / 'README.md').exists()


def test_a_result_that_is_predicted_to_do_harm_is_not_written_unless_forced(translation):
    root, _ = translation
    few = [
        {f't{seed}': toy_adapters.draw(side, seed) for seed in range(3)}
        for side in ('source', 'target')
    ]
    mapping.fit('matched_scaled', *few).save(root / 'mapping')
    io.write_json(root / 'mapping' / BASES, {'source': 'a/source', 'target': 'a/target'})
    harm = f'^{root}/query: (by 3 pairs of adapters its translation is predicted|the mapping pred)'
    with pytest.raises(InputError, match=harm):
        translate(root)
    assert not (root / 'out').exists()
    zero = mapping.fit('zero', *[
        {f't{seed}': toy_adapters.draw(side, seed) for seed in range(4)}
        for side in ('source', 'target')
    ])  # fmt: skip
    zero.save(root / 'mapping')
    io.write_json(root / 'mapping' / BASES, {'source': 'a/source', 'target': 'a/target'})
    with pytest.raises(InputError, match='all of it is zero'):
        translate(root)
    assert not (root / 'out').exists()
    translate(root, FORCE)
    written = tensor_files.read(root / 'out' / 'adapter_model.safetensors')
    assert all((np.asarray(value) == 0).all() for n, value in written.items() if 'lora_B' in n)


@pytest.fixture
def toy_translation(tmp_path):
    """A mapping between the toy's models, a small adapter and prompts of a toy task.

    What it predicts does harm on the target and lies in the anchors' span, so that weights fitted
    to anything undo some of it.
    """
    anchors = [
        {f't{seed}': toy_adapters.draw(side, seed, size=size) for seed in range(3)}
        for side, size in (('source', 0.02), ('target', 1.0))
    ]
    mapping.fit('delta_ridge', *anchors).save(tmp_path / 'mapping')
    hashes = {
        f'{side}_weights': models.weights_hash(models.resolve(f'toy-{side}'))
        for side in ('source', 'target')
    }
    bases = {'source': 'a/source', 'target': 'a/target'}
    io.write_json(tmp_path / 'mapping' / BASES, bases | hashes)
    toy_adapters.write(tmp_path / 'query', 'source', 9, 'a/source', size=0.02)
    rows = known_rows(8)
    (tmp_path / 'prompts').write_text('\n'.join(json.dumps({'prompt': r.prompt}) for r in rows))
    (tmp_path / 'rows').write_text(
        '\n'.join(json.dumps({'prompt': r.prompt, 'completion': r.answer}) for r in rows)
    )
    return tmp_path


TOY = ('--source_model=toy-source', '--target_model=toy-target')
SIZES = ('--max_new_tokens=8', '--max_len=32', '--eval_batch_size=8', '--dtype=float32')


def test_with_prompts_and_labels_it_climbs_and_says_how_far(toy_translation, monkeypatch):
    root = toy_translation  # whose pairs have nothing in common, so that none would be trusted
    monkeypatch.setattr(
        material, 'trust', lambda signs, *_: Trust(1.0 * np.isfinite(signs.losses), is_backed=True)
    )  # fmt: skip
    everything = [*TOY, f'--prompts={root}/prompts', f'--examples={root}/rows', *SIZES, FORCE]
    translate(root, *everything)
    config, adapter = lora.load_peft(root / 'out')
    assert config.base_model == 'a/target' and config.rank == 4  # twice the anchors'
    alone = mapping.load(root / 'mapping').predict(lora.load_peft(root / 'query')[1])
    update, before = (
        tree['layers']['q_proj']['a'] @ tree['layers']['q_proj']['b'] for tree in (adapter, alone)
    )
    # Ranks differ, so updates are compared; rounding would be 1e-6.
    assert np.linalg.norm(update - before) > 1e-4 * np.linalg.norm(before)
    card = (root / 'out' / 'README.md').read_text()
    assert '| rung reached | few-shot: ' in card and '**Verdict: ' in card
    assert '| nats per token of 2 answers kept out | none ' in card
    assert ', reweighted ' in card and '| the rung distilled needs | ' in card


def test_prompts_of_another_kind_leave_the_translation_as_it_is(toy_translation):
    root = toy_translation
    translate(root, *TOY, f'--prompts={root}/prompts', *SIZES, FORCE)
    expected = mapping.load(root / 'mapping').predict(lora.load_peft(root / 'query')[1])
    actual = lora.load_peft(root / 'out')[1]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), actual, expected)
    card = (root / 'out' / 'README.md').read_text()
    assert '| rung reached | map: ' in card and 'prompts do not seem to be of the kind' in card
    assert 'adapter is for; trust_prompts learns them' in card
    shutil.rmtree(root / 'out')
    translate(root, *TOY, f'--prompts={root}/prompts', '--trust_prompts', *SIZES, FORCE)
    assert 'seem to be of the kind' not in (root / 'out' / 'README.md').read_text()


def test_prompts_that_the_source_writes_itself_are_climbed_with(toy_translation, monkeypatch):
    root = toy_translation
    prompts = [row.prompt for row in known_rows(8)]
    asked = []
    monkeypatch.setattr(self_prompts, 'sample', lambda *_, **__: [*prompts, 'code ca'])
    monkeypatch.setattr(self_prompts, 'select', lambda *given, **__: dict.fromkeys(given[3][:8]))

    def climb(*given, **_):
        asked.append(given[5])
        return {name: ladder.Reached(adapter) for name, adapter in given[4].items()}

    monkeypatch.setattr(ladder, 'climb', climb)
    translate(root, *TOY, '--sample_prompts=16', *SIZES, FORCE)
    assert asked == [prompts]
    card = (root / 'out' / 'README.md').read_text()
    assert '16 prompts were sampled from the source model, 9 of them whole' in card


def test_a_model_that_is_not_the_mappings_is_refused_before_it_is_loaded(toy_translation):
    root = toy_translation
    with pytest.raises(InputError, match='toy-target: its weights are not those of a/source'):
        translate(root, '--source_model=toy-target', TOY[1], f'--prompts={root}/prompts')
    io.write_json(root / 'mapping' / BASES, {'source': 'a/source', 'target': 'a/target'})
    with pytest.raises(InputError, match=r'toy-target: q_proj has \(layers, in, out\)'):
        translate(root, '--source_model=toy-target', TOY[1], f'--prompts={root}/prompts')
    assert not (root / 'out').exists()


@pytest.mark.parametrize(
    ('flags', 'line'),
    [
        (['--prompts=p'], 'source_model: is missing, prompts needs it'),
        (['--prompts=p', TOY[0]], 'target_model: is missing, prompts needs it'),
        (['--examples=e'], 'target_model: is missing, examples needs it'),
        (['--distill'], 'prompts: is missing, distill needs it'),
        (['--sample_prompts=8'], 'source_model: is missing, sample_prompts needs it'),
        (['--trust_prompts'], 'prompts: is missing, trust_prompts needs it'),
        ([*TOY, '--prompts=p', '--sample_prompts=8'], 'sample_prompts 8: expected this or prompts'),
        (TOY[:1], 'source_model toy-source: is of use with prompts or the other model'),
    ],
)
def test_flags_that_need_others_are_refused(translation, flags, line):
    root, _ = translation
    with pytest.raises(ArgumentError, match=line):
        translate(root, *flags)
    assert not (root / 'out').exists()


def test_one_of_the_two_flags_is_needed(translation):
    root, _ = translation
    arguments = ['translate', f'--mapping={root}/mapping', f'--output={root}/out']
    for more in ([], [f'--adapter={root}/query', f'--adapters={root}']):
        with pytest.raises(InputError, match='--adapter, --adapters: expected one of the two'):
            run(*arguments, *more)
