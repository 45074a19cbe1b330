import re
import time

import pytest

from lorajax.errors import InputError
from lorajax.lora import expressions

NAME = 'model.layers.11.self_attn.q_proj'


@pytest.mark.parametrize(
    'expression',
    [
        r'.*\.(q|v)_proj', r'model\.layers\.(\d+)\.self_attn\.q_proj', r'model', r'.*v_proj$', '',
        r'(?:.*\.)?layers\.(?:1[0-9]|2)\.(?:.*)_proj', r'.*\.[a-z_]+\.[qkv]_proj',
    ],
)  # fmt: skip
@pytest.mark.parametrize('whole', [False, True])
def test_it_matches_what_the_standard_library_matches(expression, whole):
    expected = (re.fullmatch if whole else re.match)(expression, NAME)
    found = expressions.match(expression, NAME, whole=whole)
    assert (found and found.span()) == (expected and expected.span())
    assert (found and found.groups()) == (expected and expected.groups())


def test_an_expression_of_exponential_time_is_refused():
    begin = time.monotonic()
    with pytest.raises(InputError, match='takes more than 1 s on model'):
        expressions.match(r'(.|..|[a-z._0-9]+)*[A-Z]', NAME * 2, whole=True)
    assert time.monotonic() - begin < 30
