"""The program in an answer, run as the tests would run it."""

import ast
import time

import pytest

from lorajax.tasks.code_extraction import extract_code

S = 'def f(x):\n    return 2 * x'
ANSWERS = {
    'Python tag': '```Python\n' + S + '\n```',
    'crlf': ('Here:\n```python\n' + S + '\n```\nDone.').replace('\n', '\r\n'),
    'indented': '1. Do:\n\n   ```python\n   def f(x):\n       return 2 * x\n   ```\n   ok',
    'tilde': '~~~python\n' + S + '\n~~~',
    'title': '```python title="f.py"\n' + S + '\n```',
    'title2': '```python:f.py\n' + S + '\n```',
    'curly': '``` {.python .numberLines}\n' + S + '\n```',
    'shell first': 'Run:\n```bash\npip install x\n```\nthen\n```python\n' + S + '\n```',
    'untagged shell first': '```\n$ pip install x\n```\n```python\n' + S + '\n```',
    'example first': 'For example\n```python\n>>> f(3)\n6\n```\n```python\n' + S + '\n```',
    'example first 2': '```python\nf(3)  # 6\n```\n```python\n' + S + '\n```',
    'example after': '```python\n'
    + S
    + '\n```\nUsage:\n```python\nprint(f(3))\nassert f(3) == 7\n```',
    'helper': (
        '```python\ndef g(x):\n    return x\n```\nand\n```python\ndef f(x):\n'
        '    return g(x) + g(x)\n```'
    ),
    'helper after': (
        '```python\ndef f(x):\n    return g(x) + g(x)\n```\nwith\n```python\n'
        'def g(x):\n    return x\n```'
    ),
    'import apart': (
        '```python\nimport math\n```\n```python\ndef f(x):\n    return math.floor(2 * x)\n```'
    ),
    'docstring fence': (
        '```python\ndef f(x):\n    """Doubles.\n\n    ```\n    f(3)\n    ```\n'
        '    """\n    return 2 * x\n```\nthat is all'
    ),
    'docstring fence python': (
        '```python\ndef f(x):\n    """Doubles.\n\n    ```python\n    f(3)\n'
        '    ```\n    """\n    return 2 * x\n```\nthat is all'
    ),
    'prose': 'Sure, here is it:\n\n' + S + '\n\nThis doubles x.',
    'prose2': (
        'We import first.\nimport math\n\ndef f(x):\n'
        '    return math.floor(2 * x)\n\nTime complexity: O(1).'
    ),
    'prose indented': 'The code:\n\n    def f(x):\n        return 2 * x\n\nThat is it.',
    'plain': S,
    'test inside': '```python\n' + S + '\n\nassert f(1) == 3\nprint(f(2))\nx = input()\n```',
    'main': '```python\n' + S + '\n\nif __name__ == "__main__":\n    f(input())\n```',
    'unclosed': '```python\n' + S,
    'unclosed prose': '```python\n' + S + '\n\nThis function doubles.',
    'table': (
        '```python\ntable = []\nfor i in range(9):\n    table.append(2 * i)\n\n'
        'def f(x):\n    return table[x]\n```'
    ),
    'memo': (
        '```python\nmemo = {}\nmemo[0] = 0\n\ndef f(x):\n'
        '    if x not in memo:\n        memo[x] = f(x - 1) + 2\n'
        '    return memo[x]\n```'
    ),
    'recursion limit': (
        '```python\nimport sys\nsys.setrecursionlimit(5000)\n\ndef f(x):\n'
        '    return 0 if not x else 2 + f(x - 1)\n```'
    ),
    'lambda': '```python\nf = lambda x: 2 * x\n```',
    'decorator': (
        '```python\nfrom functools import lru_cache\n\n@lru_cache(None)\n'
        'def f(x):\n    return 2 * x\n```'
    ),
    'class': (
        '```python\nclass Doubler:\n    def go(self, x):\n'
        '        return 2 * x\n\ndef f(x):\n    return Doubler().go(x)\n```'
    ),
    'stub first': '```python\ndef f(x):\n    """Doubles."""\n    pass\n```\nfilled:\n```python\n'
    + S
    + '\n```',
    'four backticks': '````python\n' + S + '\n````',
    'quote': '> ```python\n> def f(x):\n>     return 2 * x\n> ```',
    'inner solution': (
        '```python\nclass Solution:\n    pass\n\n\ndef f(x):\n'
        '    return 2 * x\n\n\nprint(Solution())\n```'
    ),
    'fixed later block broken': '```python\ndef f(x)\n    return 3\n```\nOops, syntax:\n```python\n'
    + S
    + '\n```',
    'json first': '```json\n{"f": 3}\n```\n```py\n' + S + '\n```',
    'output after': '```python\n' + S + '\n```\n```\n6\n```',
    'constant': '```python\nTWO = 2\nfactor = TWO\n\ndef f(x):\n    return factor * x\n```',
    'try import': (
        '```python\ntry:\n    import numpy as np\nexcept ImportError:\n'
        '    np = None\n\ndef f(x):\n    return x + x if np else 2 * x\n```'
    ),
    'no newline before fence': 'The code is ```python\n' + S + '\n```',
    'comment': '```python\n# doubles\n' + S + '\n```',
    'tabs': '```python\ndef f(x):\n\treturn 2 * x\n```',
    'two defs same block': '```python\ndef f(x):\n    return x\n\ndef f(x):\n    return 2 * x\n```',
    'semicolon': '```python\na = 2; b = 0\ndef f(x): return a * x + b\n```',
    'global': (
        '```python\ncount = 0\n\ndef f(x):\n    global count\n'
        '    count += 2 * x\n    r = count\n    count = 0\n    return r\n```'
    ),
}


@pytest.mark.parametrize('name', ANSWERS)
def test_the_function_is_found_and_what_it_needs(name):
    namespace = {}
    exec(extract_code(ANSWERS[name], ['f']), namespace)
    assert namespace['f'](3) == 6


@pytest.mark.parametrize(
    ('prediction', 'code'),
    [
        ('```python\nx = 1\n```\nDone.', 'x = 1'),
        ('Here:\n```py\nx = 1\n\ny = 2\n```', 'x = 1\n\ny = 2'),
        ('```\n    x = 1\n```', 'x = 1'),
        ('```python\nx = 1', 'x = 1'),
        ('x = 1\n', 'x = 1'),
        ('', ''),
        ('```bash\nls -l\n```\n```python\nx = 1\n```', 'x = 1'),
        ('```python\nx = = 1\n```', 'x = = 1'),
    ],
)
def test_without_entry_points_the_first_block_is_kept_whole(prediction, code):
    assert extract_code(prediction) == code


def test_examples_tests_and_prints_of_the_model_go():
    noise = 'print(f(1))\nassert f(1) == 2\nx = input()\nimport math\n'
    code = extract_code(f'```python\n{S}\n{noise}```\nTry:\n```python\nf(5)\nexit()\n```', ['f'])
    assert [type(s) for s in ast.parse(code).body] == [ast.FunctionDef, ast.Import]


def test_of_two_solutions_the_first_counts_and_keeps_its_own_helpers():
    first = 'def g(x):\n    return x\n\ndef f(x):\n    return g(x)'
    second = 'def g(x):\n    return -x\n\ndef f(x):\n    return g(x)'
    namespace = {}
    exec(extract_code(f'```\n{first}\n```\nor\n```\n{second}\n```', ['f']), namespace)
    assert namespace['f'](1) == 1


def test_an_answer_without_the_function_is_returned_as_it_is():
    assert (
        extract_code('```python\ndef g(x):\n    return x\n```', ['f']) == 'def g(x):\n    return x'
    )
    assert extract_code('I do not know.', ['f']) == 'I do not know.'


@pytest.mark.parametrize(
    'text',
    [
        'def f(:\n' * 3000,
        '```\n' * 5000,
        '(' * 50_000,
        'x = [\n' * 3000,
        '```python\n' * 3000,
        '"""\n' * 3000,
        'def f():\n' * 3000,
        'def f():\n\0',
        "def f(x):\n return '\ud800'",
        'if 1:\n' * 200,
        '-' * 100_000,
        'a=1\n' * 20_000,
        'import x y\n' * 5000,
        '```\n```python\n' * 2000,
        'f = ' + '9' * 5000,
        '~~~' * 9999,
    ],
)
def test_nothing_that_a_model_writes_breaks_or_holds_it_up(text):
    """The worst took 2 s of processor time on a busy core."""
    start = time.process_time()
    assert isinstance(extract_code(text, ['f']), str)
    assert time.process_time() - start < 10
