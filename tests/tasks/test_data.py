"""Rows from files, and the draw: what is evaluated is never trained on."""

import gzip
import json
import re

import pytest

from lorajax.errors import ArgumentError, InputError
from lorajax.tasks import data, overlap, registry
from lorajax.tasks.data import DataSource
from lorajax.tasks.task import Task
from tests.tasks import small_data


def get(*names: str) -> list[Task]:
    """Tasks by name."""
    return [registry.get(name) for name in names]


ANCHORS, HELDOUTS = get(*registry.ANCHORS), get(*registry.HELDOUTS)


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> DataSource:
    """The small data directory."""
    directory = tmp_path_factory.mktemp('data')
    small_data.write(directory)
    return DataSource(str(directory))


def one_line(error) -> str:
    assert '\n' not in str(error.value)
    return str(error.value)


class TestDataSource:
    def test_reads_plain_and_packed_files_in_order(self, tmp_path):
        rows = small_data.multiarith(0, 3)
        text = ''.join(json.dumps(row) + '\n' for row in rows) + '\n'
        (tmp_path / 'multiarith').mkdir()
        (tmp_path / 'multiarith/train.jsonl').write_text(text)
        (tmp_path / 'multiarith/test.jsonl.gz').write_bytes(gzip.compress(text.encode()))
        source = DataSource(str(tmp_path))
        assert source.rows('multiarith', 'train') == rows == source.rows('multiarith', 'test')
        assert source.rows('multiarith', 'train') is source.rows('multiarith', 'train')

    def test_line_separators_inside_strings_do_not_end_a_line(self, tmp_path):
        row = {'question': 'one\u2028two\x85three', 'final_ans': '1'}
        (tmp_path / 'multiarith').mkdir()
        path = tmp_path / 'multiarith/train.jsonl'
        path.write_text(json.dumps(row, ensure_ascii=False) + '\n', encoding='utf-8')
        assert DataSource(str(tmp_path)).rows('multiarith', 'train') == [row]

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            (None, r'multiarith/train\.jsonl: no such file; expected .* question, final_ans'),
            (b'', r'multiarith/train\.jsonl: empty'),
            (b'\n\n', r'empty'),
            (b'{"question": "q", "final_ans": 1}\n{"question": "q"}', r"2: field 'final_ans' is m"),
            (b'{"question": 3, "final_ans": 1}', r"1: field 'question' is int, expected str"),
            (b'{"question": "q", "final_ans": []}', 'list, expected int or float or str'),
            (b'[1]', r'1: expected a JSON object, found list'),
            (b'{"question"', r'train\.jsonl:1: not valid JSON'),
            (b'\xff\xfe', r'cannot be read'),
        ],
    )
    def test_bad_files_are_named(self, tmp_path, content, message):
        (tmp_path / 'multiarith').mkdir()
        if content is not None:
            (tmp_path / 'multiarith/train.jsonl').write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            DataSource(str(tmp_path)).rows('multiarith', 'train')
        assert str(tmp_path) in one_line(error)

    @pytest.mark.parametrize('damage', [lambda b: b[:-9], lambda b: b'x' + b, lambda b: b[:12]])
    def test_damaged_packed_files_are_named(self, tmp_path, damage):
        (tmp_path / 'multiarith').mkdir()
        packed = gzip.compress(json.dumps(small_data.multiarith(0, 1)[0]).encode() * 50)
        (tmp_path / 'multiarith/train.jsonl.gz').write_bytes(damage(packed))
        with pytest.raises(InputError, match=r'train\.jsonl\.gz: cannot be read'):
            DataSource(str(tmp_path)).rows('multiarith', 'train')

    def test_missing_math_rows_say_what_to_do(self, tmp_path):
        with pytest.raises(InputError) as error:
            registry.get('math_algebra_easy').pools(DataSource(str(tmp_path)), 'direct')
        message = one_line(error)
        assert f'{tmp_path}/competition_math/train.jsonl' in message
        assert 'problem, level, type, solution' in message
        assert 'leave out the math_* tasks' in message

    def test_a_hub_out_of_reach(self, monkeypatch):
        import datasets

        monkeypatch.setattr(datasets.config, 'HF_HUB_OFFLINE', True)
        with pytest.raises(InputError, match=r'openai/gsm8k \(main, train\): cannot be read') as e:
            DataSource().rows('gsm8k', 'train')
        assert 'a data directory' in one_line(e)

    def test_rows_of_the_hub_are_checked_and_joined(self, monkeypatch):
        import datasets

        def load(name, config, split):
            assert (name, split) == ('EleutherAI/hendrycks_math', 'train')
            return [{'problem': config, 'level': 'l', 'type': 't', 'solution': 's'}]

        monkeypatch.setattr(datasets, 'load_dataset', load)
        rows = DataSource().rows('competition_math', 'train')
        assert [row['problem'] for row in rows][:2] == ['algebra', 'counting_and_probability']
        monkeypatch.setattr(datasets, 'load_dataset', lambda *a, split: [{'question': 'q'}])
        with pytest.raises(InputError, match="row 1: field 'answer' is missing"):
            DataSource().rows('gsm8k', 'train')

    def test_a_set_without_a_hub_copy(self):
        with pytest.raises(InputError, match='data set mawps: no copy on the hub'):
            DataSource().rows('mawps', 'train')


class TestDraw:
    def test_the_default_run_has_no_overlap(self, source):
        drawn = data.draw(ANCHORS, HELDOUTS, source, 16, 8, seed=0)
        assert list(drawn) == [*registry.ANCHORS, *registry.HELDOUTS]
        for name, task in drawn.items():
            assert 8 <= len(task.train) <= 16
            assert len(task.eval) == (8 if name in registry.HELDOUTS else 0)
        found = overlap.matrix(drawn)
        overlap.check(found)
        assert len(found['cells']) == 22 and all(len(row) == 6 for row in found['cells'].values())

    def test_before_the_rule_there_is_overlap(self, source):
        raw = data.draw_raw(get('mbpp', 'gsm8k'), get('mbpp_plus', 'gsm_hard'), source, 8, seed=0)
        cells = overlap.matrix(raw)['cells']
        assert cells['mbpp']['mbpp_plus']['id'] == 8 and cells['gsm8k']['gsm_hard']['id'] == 0
        assert cells['gsm_hard']['gsm_hard']['exact'] == 8
        with pytest.raises(InputError, match='overlaps'):
            overlap.check(overlap.matrix(raw))

    @pytest.mark.parametrize(
        ('heldout', 'others'),
        [
            ('gsm8k_test_500', ['gsm_hard']),
            ('gsm_hard', ['gsm8k', 'gsm8k_test_500']),
            ('mbpp_test_held', ['mbpp', 'mbpp_sanitized', 'mbpp_plus']),
            ('mbpp_plus', ['mbpp', 'mbpp_sanitized', 'mbpp_test_held']),
            ('mbpp_sanitized', ['mbpp', 'mbpp_plus']),
            ('mmlu_astronomy', ['mmlu_astronomy', 'arc_easy']),
            ('mawps', ['mawps', 'multiarith']),
        ],
    )
    def test_any_task_can_be_held_out(self, source, heldout, others):
        for seed in range(3):
            overlap.check(
                overlap.matrix(data.draw(get(*others), get(heldout), source, 50, 6, seed))
            )

    def test_tasks_over_the_same_problems_keep_out_of_each_other(self, source):
        drawn = data.draw(
            [], get('gsm_hard', 'gsm8k', 'mbpp_plus', 'mbpp_test_held'), source, 99, 9, 1
        )
        evaluated = {i for task in drawn.values() for e in task.eval for i in e.problem_ids}
        for task in drawn.values():
            assert evaluated.isdisjoint(i for e in task.train for i in e.problem_ids)

    def test_a_rare_shared_run_of_words_is_enough(self, tmp_path):
        words = ' '.join(f'word{i}' for i in range(14))
        rows = [{'question': f'{words} {i} {i * i}?', 'final_ans': i} for i in range(8)]
        (tmp_path / 'multiarith').mkdir()
        plain = [{'question': f'What is {i} squared?', 'final_ans': i * i} for i in range(8)]
        for split, content in {'train': rows[:4] + plain, 'test': rows[4:]}.items():
            text = ''.join(json.dumps(row) + '\n' for row in content)
            (tmp_path / f'multiarith/{split}.jsonl').write_text(text)
        drawn = data.draw([], get('multiarith'), DataSource(str(tmp_path)), 99, 99, 0)
        assert len(drawn['multiarith'].train) == 8 and len(drawn['multiarith'].eval) == 4

    def test_the_seed_decides_and_the_order_of_files_does_not(self, source, tmp_path):
        def items(source, seed):
            drawn = data.draw(get('gsm8k'), get('arc_challenge'), source, 12, 8, seed)
            return [[e.question for e in task.train + task.eval] for task in drawn.values()]

        assert items(source, 0) == items(source, 0) != items(source, 1)
        small_data.write(tmp_path)
        for path in tmp_path.rglob('*.jsonl'):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text(''.join(reversed(lines)))
        assert items(DataSource(str(tmp_path)), 0) == items(source, 0)

    def test_evaluation_items_do_not_depend_on_the_company(self, source):
        alone = data.draw([], get('arc_challenge'), source, 8, 8, 0)['arc_challenge'].eval
        among = data.draw(ANCHORS, HELDOUTS, source, 30, 8, 0)
        assert among['arc_challenge'].eval == alone
        more = data.draw([], get('arc_challenge'), source, 8, 12, 0)['arc_challenge'].eval
        assert more[:8] == alone

    def test_repeated_items_are_evaluated_once(self, tmp_path):
        (tmp_path / 'multiarith').mkdir()
        for split, start in (('train', 0), ('test', 10)):
            rows = small_data.multiarith(start, 4) * 2
            text = ''.join(json.dumps(row) + '\n' for row in rows)
            (tmp_path / f'multiarith/{split}.jsonl').write_text(text)
        drawn = data.draw([], get('multiarith'), DataSource(str(tmp_path)), 99, 99, 0)
        assert len(drawn['multiarith'].eval) == 4

    def test_a_data_set_with_one_split_keeps_a_fifth_for_training(self, source):
        drawn = data.draw([], get('gsm_hard'), source, 999, 999, 0)['gsm_hard']
        assert (len(drawn.train), len(drawn.eval)) == (5, 19)

    def test_a_task_may_stand_on_both_sides(self, source):
        drawn = data.draw(get('arc_easy'), get('arc_easy'), source, 8, 4, 0)
        assert list(drawn) == ['arc_easy'] and len(drawn['arc_easy'].eval) == 4

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            ({'heldouts': get('humaneval')}, 'humaneval: it has no evaluation items'),
            ({'train_per_task': 0}, 'train_per_task 0: expected at least 1'),
            ({'eval_per_task': -1}, 'eval_per_task -1: expected at least 1'),
            ({'protocol': 'few'}, "protocol 'few'"),
        ],
    )
    def test_bad_requests(self, source, change, message):
        arguments = {
            'anchors': get('gsm8k'), 'heldouts': get('arc_easy'), 'source': source,
            'train_per_task': 4, 'eval_per_task': 4, 'seed': 0, 'protocol': 'direct',
        }  # fmt: skip
        with pytest.raises(InputError, match=re.escape(message)) as error:
            data.draw(**arguments | change)
        one_line(error)

    def test_an_empty_training_set_is_an_error(self, tmp_path):
        small_data.write(tmp_path)
        (tmp_path / 'mbpp_sanitized/train.jsonl').write_text('')
        rows = small_data.mbpp_sanitized(small_data.mbpp(11, 4))
        for split in ('train', 'validation', 'prompt', 'test'):
            text = ''.join(json.dumps(row) + '\n' for row in rows)
            (tmp_path / f'mbpp_sanitized/{split}.jsonl').write_text(text)
        with pytest.raises(InputError, match='mbpp_sanitized: no training example is left, all 16'):
            data.draw(
                get('mbpp_sanitized'), get('mbpp_test_held'), DataSource(str(tmp_path)), 9, 99, 0
            )


class TestDrawTraining:
    """An adapter trained alone may be evaluated on any held-out afterwards."""

    @pytest.mark.parametrize('name', ['gsm_hard', 'mbpp', 'mbpp_sanitized', 'mbpp_plus', 'gsm8k'])
    @pytest.mark.parametrize('seed', [0, 1])
    def test_shares_nothing_with_any_evaluation_draw(self, source, name, seed):
        (task,) = get(name)
        drawn = data.draw_training(task, HELDOUTS, source, 999, 8, seed)
        later = data.draw([], [task, *HELDOUTS], source, 8, 8, seed)
        assert drawn.examples and drawn.unreserved == ()
        for evaluated in later.values():
            assert not overlap.Problems(evaluated.eval).holds(drawn.examples).any()
        unreserved = data.draw_training(task, [], source, 999, 8, seed).examples
        assert len(unreserved) > len(drawn.examples) or name in ('gsm8k', 'gsm_hard', 'mbpp_plus')

    def test_missing_rows_of_a_reserved_task_are_named_and_those_of_the_task_are_an_error(
        self, source, tmp_path
    ):
        small_data.write(tmp_path)
        (tmp_path / 'openbookqa/test.jsonl').unlink()
        partial = DataSource(str(tmp_path))
        drawn = data.draw_training(*get('gsm8k'), HELDOUTS, partial, 8, 8, 0)
        assert drawn.unreserved == ('openbookqa_test',)
        assert drawn.examples == data.draw_training(*get('gsm8k'), HELDOUTS, source, 8, 8, 0)[0]
        with pytest.raises(data.MissingRowsError, match=r'openbookqa/test\.jsonl: no such file'):
            data.draw_training(*get('openbookqa_test'), HELDOUTS, partial, 8, 8, 0)

    def test_malformed_rows_of_a_reserved_task_are_an_error(self, tmp_path):
        small_data.write(tmp_path)
        (tmp_path / 'openbookqa/test.jsonl').write_text('{')
        with pytest.raises(InputError, match=r'openbookqa/test\.jsonl:1: not valid JSON'):
            data.draw_training(*get('gsm8k'), HELDOUTS, DataSource(str(tmp_path)), 8, 8, 0)

    def test_a_task_without_evaluation_items_can_be_trained(self, source):
        drawn = data.draw_training(*get('humaneval'), HELDOUTS, source, 5, 8, 0)
        assert len(drawn.examples) == 5

    def test_counts_below_one_are_refused(self, source):
        with pytest.raises(ArgumentError, match='train_per_task 0: expected at least 1'):
            data.draw_training(*get('gsm8k'), HELDOUTS, source, 0, 8, 0)
        with pytest.raises(ArgumentError, match='eval_per_task 0: expected at least 1'):
            data.draw_training(*get('gsm8k'), HELDOUTS, source, 8, 0, 0)
