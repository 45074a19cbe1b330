"""JSON from anywhere is read as what it says, or refused in one line."""

import json
import math
import re

import pytest

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import json_files

GOOD = [
    '0', '-0.0', '1e308', '123456789012345678901234567890', '"\\u00fc \\ud83d\\ude00"', '[]',
    '{"a": [1, 2.5, {"b": null}], "": true}', '\ufeff{"a": 1}', ' [1 ,2] ', '9' * 300,
    '"\\\\ud800"',
]  # fmt: skip
BAD = {
    'nesting of lists': ('[' * 100_000, 'nested more than 64 deep'),
    'nesting of lists that end': ('[' * 65 + ']' * 65, 'nested more than 64 deep'),
    'nesting of objects': ('{"a":' * 100_000, 'nested more than 64 deep'),
    'a long integer': ('9' * 5000, 'an integer of 5000 digits, expected at most 300'),
    'an integer above float64': ('-1' + '0' * 400, 'an integer of 402 digits'),
    'a number above float64': ('1e999', '1e999 exceeds float64'),
    'NaN': ('[NaN]', 'NaN is no number of JSON'),
    'Infinity': ('{"a": Infinity}', 'Infinity is no number of JSON'),
    '-Infinity': ('-Infinity', '-Infinity is no number of JSON'),
    'a name twice': ('{"a": {"b": 1, "b": 1}}', "'b' occurs twice in one object"),
    'half a pair': ('["x\\ud800y"]', "half a surrogate pair in 'x\\\\ud800y'"),
    'half a pair in a name': ('{"\\udfff": 1}', 'half a surrogate pair'),
    'no JSON': ('{"a": 1,}', 'not valid JSON'),
    'nothing': ('', 'not valid JSON (Expecting value, column 1)'),
    'two values': ('1 2', 'not valid JSON (Extra data, column 3)'),
    'control characters': ('"\x00"', 'not valid JSON'),
}


@pytest.mark.parametrize('text', GOOD)
def test_what_is_json_reads_as_with_the_standard_library(tmp_path, text):
    (tmp_path / 'x').write_text(text, encoding='utf-8')
    assert io.read_json(tmp_path / 'x') == json.loads(text.removeprefix('\ufeff'))
    assert io.read_jsonl(tmp_path / 'x') == [json.loads(text.removeprefix('\ufeff'))]


@pytest.mark.parametrize('case', BAD)
def test_what_is_none_is_one_line_with_the_path(tmp_path, case):
    text, problem = BAD[case]
    path = tmp_path / 'x'
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        io.read_json(path)
    line = str(caught.value)
    assert line.startswith(f'{path}: ') and problem in line, line
    assert '\n' not in line and len(line) < 300
    if text:
        path.write_text(f'1\n\n{text}\n')
        with pytest.raises(InputError, match=f'^{re.escape(str(path))}:3: '):
            io.read_jsonl(path)


def test_depth_is_what_it_says():
    text = '[' * 64 + ']' * 64
    assert io.parse_json(text.encode(), 'x') == json.loads(text)


@pytest.mark.parametrize('content', [b'{"a": 1}\n{', b'\xff', b'1\n"\xff"'])
def test_malformed_lines_are_named(tmp_path, content):
    path = tmp_path / 'rows.jsonl'
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        io.read_jsonl(path)


def test_halves_of_pairs_are_replaced_where_the_caller_says_so(tmp_path):
    (tmp_path / 'x').write_text('{"a\\ud800": ["\\udc00b", "\\ud83d\\ude00", 1]}')
    expected = {'a\ufffd': ['\ufffdb', '\U0001f600', 1]}
    assert io.read_json(tmp_path / 'x', surrogates='replace') == expected
    assert io.read_jsonl(tmp_path / 'x', surrogates='replace') == [expected]
    (tmp_path / 'x').write_text('{"\\ud800": 1, "\\ud801": 2}')  # names that become one
    with pytest.raises(InputError, match='names of an object'):
        io.read_json(tmp_path / 'x', surrogates='replace')


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / 'x').write_bytes(b'\n{"a": "\xe2\x80\xa8"}\r\n  \n2')
    assert io.read_numbered_jsonl(tmp_path / 'x') == [(2, {'a': '\u2028'}), (4, 2)]


def test_a_line_without_end_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, 'MAX_BYTES', 10)
    (tmp_path / 'x').write_text('1\n' + '2' * 11)
    with pytest.raises(InputError, match=r'x:2: has more than 10 bytes'):
        io.read_jsonl(tmp_path / 'x')


def test_what_is_written_reads_the_same(tmp_path):
    rows = [{'text': 'ü\u2028\n', 'n': 10**299, 'x': -0.5}, [None, True], 'a']
    io.write_json(tmp_path / 'a.json', rows)
    io.write_jsonl(tmp_path / 'a.jsonl', rows)
    assert io.read_json(tmp_path / 'a.json') == rows == io.read_jsonl(tmp_path / 'a.jsonl')
    assert len((tmp_path / 'a.jsonl').read_bytes().split(b'\n')) == 4


def test_model_output_may_hold_halves_of_pairs(tmp_path):
    io.write_jsonl(tmp_path / 'x', [{'prediction': 'a\ud800', 'error': '\ud83d\ude00'}])
    assert io.read_jsonl(tmp_path / 'x') == [{'prediction': 'a\ufffd', 'error': '\U0001f600'}]


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_nan_is_not_json(tmp_path, value):
    for write in (io.write_json, lambda path, value: io.write_jsonl(path, [value])):
        with pytest.raises(ValueError, match='not JSON compliant'):
            write(tmp_path / 'x.json', {'a': value})
    assert not (tmp_path / 'x.json').exists()
