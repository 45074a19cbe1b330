"""The data sets and the tasks: two tables.

Held-out tasks ask whether a translated adapter works on a task that no anchor is; anchors
are the tasks for which adapters exist on both models. Round 4 names its six held-outs and
nine of its sixteen anchors; seven of ours fill them up.
"""

import difflib
import functools
import hashlib
from collections.abc import Callable, Mapping

from lorajax.errors import InputError
from lorajax.tasks import formats
from lorajax.tasks.formats import Format
from lorajax.tasks.task import PROTOCOLS, Dataset, Example, Pools, RowSource, Task

_ARC = {'question': str, 'choices': dict, 'answerKey': str}
_MBPP_OLD = {'task_id': int, 'text': str, 'code': str, 'test_list': list}
_MBPP_NEW = {'task_id': int, 'prompt': str, 'code': str, 'test_list': list}
_NUMBER = (int, float, str)

_DATASETS = (
    Dataset('gsm8k', 'openai/gsm8k', ('main',), {'question': str, 'answer': str}),
    Dataset(
        'gsm_hard',
        'reasoning-machines/gsm-hard',
        ('default',),
        {'input': str, 'code': str, 'target': _NUMBER},
    ),
    Dataset(
        'multiarith', 'ChilleD/MultiArith', ('default',), {'question': str, 'final_ans': _NUMBER}
    ),
    Dataset('mawps', None, (), {'original_text': str, 'equation': str, 'ans': _NUMBER}),
    Dataset(
        'competition_math',
        'EleutherAI/hendrycks_math',
        ('algebra', 'counting_and_probability', 'prealgebra'),
        {'problem': str, 'level': str, 'type': str, 'solution': str},
    ),
    Dataset('mbpp', 'google-research-datasets/mbpp', ('full',), _MBPP_OLD),
    Dataset('mbpp_sanitized', 'google-research-datasets/mbpp', ('sanitized',), _MBPP_NEW),
    Dataset('mbppplus', 'evalplus/mbppplus', ('default',), _MBPP_NEW | {'test': str}),
    Dataset(
        'humaneval',
        'openai/openai_humaneval',
        ('openai_humaneval',),
        dict.fromkeys(('task_id', 'prompt', 'canonical_solution', 'test', 'entry_point'), str),
    ),
    Dataset(
        'mmlu',
        'cais/mmlu',
        ('all',),
        {'question': str, 'subject': str, 'choices': list, 'answer': int},
    ),
    Dataset('arc_easy', 'allenai/ai2_arc', ('ARC-Easy',), _ARC),
    Dataset('arc_challenge', 'allenai/ai2_arc', ('ARC-Challenge',), _ARC),
    Dataset(
        'openbookqa',
        'allenai/openbookqa',
        ('main',),
        {'question_stem': str, 'choices': dict, 'answerKey': str},
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _DATASETS}

# Splits are written 'data set/split data set/split'.
_GSM8K = 'gsm8k/train'
_MATH = 'competition_math/train'
_MATH_TEST = 'competition_math/test'
_MBPP = 'mbpp/train mbpp/validation mbpp/prompt'
_MBPP_ALL = f'{_MBPP} mbpp/test'
_SANITIZED = ' '.join(
    f'mbpp_sanitized/{split}' for split in ('train', 'validation', 'prompt', 'test')
)
_MMLU = 'mmlu/dev mmlu/validation mmlu/test'
_CUT = 'one in five'


def _split(rows: RowSource, splits: str, convert: Format, protocol: str) -> tuple[Example, ...]:
    """Reads splits written 'data set/split data set/split'."""
    examples = []
    for split in splits.split():
        dataset, _, name = split.partition('/')
        for index, row in enumerate(rows.rows(dataset, name)):
            example = convert(row, f'{split}/{index}', protocol)
            if example is not None:
                examples.append(example)
    return tuple(examples)


def _is_cut_off(example: Example) -> bool:
    """Puts one problem in five on the evaluation side, in every run and whatever its seed."""
    return hashlib.sha256(example.problem_ids[-1].encode()).digest()[0] % 5 == 0


def _pools(
    rows: RowSource, protocol: str, *, convert: Format, train: str, held: str, first: int | None
) -> Pools:
    """The pools of one line of the table."""
    if protocol not in PROTOCOLS:
        raise InputError(f'protocol {protocol!r}: expected one of {", ".join(PROTOCOLS)}')
    pool = _split(rows, train, convert, protocol)
    if held == _CUT:
        return Pools(
            train=tuple(example for example in pool if not _is_cut_off(example)),
            eval=tuple(example for example in pool if _is_cut_off(example)),
        )
    return Pools(
        train=pool,
        eval=pool if held == train else _split(rows, held, convert, protocol)[:first],
    )


def _task(
    name: str, role: str, convert: Format, train: str, held: str, first: int | None = None
) -> Task:
    """One line of the table; of the evaluation pool only the `first` rows count."""
    pools = functools.partial(_pools, convert=convert, train=train, held=held, first=first)
    source = f'train {train}; evaluation {held or "none"}'
    if first is not None:
        source += f' (first {first})'
    domain, scorer = _KINDS[convert.func if isinstance(convert, functools.partial) else convert]
    # version 2: answers are judged as a person judges them, not by the last number or block
    return Task(name, domain, role, source, scorer, pools, version=2)


_KINDS: dict[Callable[..., Example | None], tuple[str, str]] = {
    **dict.fromkeys(
        (formats.gsm8k, formats.gsm_hard, formats.multiarith, formats.mawps, formats.math_easy),
        ('math', 'numeric'),
    ),
    **dict.fromkeys((formats.mbpp, formats.humaneval), ('code', 'code')),
    **dict.fromkeys((formats.arc, formats.openbookqa, formats.mmlu), ('science', 'letter')),
}


def _math(subject: str) -> Format:
    """The easy rows of a subject of MATH."""
    return functools.partial(formats.math_easy, subject=subject)


def _mmlu(subject: str) -> Format:
    """The rows of a subject of MMLU."""
    return functools.partial(formats.mmlu, subject=subject)


# name, role, format, training pool, evaluation pool. A data set that is its own evaluation
# pool is cut by the run's seed; all splits of MBPP may train an anchor, since problems that
# are evaluated are taken out afterwards.
_TABLE = (
    # held-outs of Round 4
    _task('gsm_hard', 'heldout', formats.gsm_hard, 'gsm_hard/train', 'gsm_hard/train'),
    _task('gsm8k_test_500', 'heldout', formats.gsm8k, _GSM8K, 'gsm8k/test', first=500),
    _task('mbpp_test_held', 'heldout', formats.mbpp, _MBPP, 'mbpp/test'),
    _task('mbpp_plus', 'heldout', formats.mbpp, 'mbppplus/test', 'mbppplus/test'),
    _task('arc_challenge', 'heldout', formats.arc, 'arc_challenge/train', 'arc_challenge/test'),
    _task('openbookqa_test', 'heldout', formats.openbookqa, 'openbookqa/train', 'openbookqa/test'),
    # anchors of Round 4
    _task('math_counting_easy', 'anchor', _math('Counting & Probability'), _MATH, _MATH_TEST),
    _task('math_algebra_easy', 'anchor', _math('Algebra'), _MATH, _MATH_TEST),
    _task('multiarith', 'anchor', formats.multiarith, 'multiarith/train', 'multiarith/test'),
    _task('mbpp', 'anchor', formats.mbpp, _MBPP_ALL, 'mbpp/test'),
    _task('mbpp_sanitized', 'anchor', formats.mbpp, _SANITIZED, 'mbpp_sanitized/test'),
    _task('humaneval', 'anchor', formats.humaneval, 'humaneval/test', ''),
    _task('mmlu_high_school_physics', 'anchor', _mmlu('high_school_physics'), _MMLU, _CUT),
    _task('mmlu_high_school_biology', 'anchor', _mmlu('high_school_biology'), _MMLU, _CUT),
    _task('mmlu_elementary_math', 'anchor', _mmlu('elementary_mathematics'), _MMLU, _CUT),
    # anchors of ours
    _task('gsm8k', 'anchor', formats.gsm8k, _GSM8K, 'gsm8k/test'),
    _task('math_prealgebra_easy', 'anchor', _math('Prealgebra'), _MATH, _MATH_TEST),
    _task('mawps', 'anchor', formats.mawps, 'mawps/train', 'mawps/test'),
    _task('arc_easy', 'anchor', formats.arc, 'arc_easy/train', 'arc_easy/test'),
    _task('mmlu_conceptual_physics', 'anchor', _mmlu('conceptual_physics'), _MMLU, _CUT),
    _task('mmlu_high_school_chemistry', 'anchor', _mmlu('high_school_chemistry'), _MMLU, _CUT),
    _task('mmlu_astronomy', 'anchor', _mmlu('astronomy'), _MMLU, _CUT),
)

TASKS: dict[str, Task] = {task.name: task for task in _TABLE}
HELDOUTS: tuple[str, ...] = tuple(task.name for task in _TABLE if task.role == 'heldout')
ANCHORS: tuple[str, ...] = tuple(task.name for task in _TABLE if task.role == 'anchor')

# Held-outs whose problems are drawn from the pool that an anchor's are. No problem is shared, but
# to translate such an adapter is hardly to translate a new task.
TWINS: dict[str, tuple[str, ...]] = {
    'gsm8k_test_500': ('gsm8k',),
    'mbpp_test_held': ('mbpp', 'mbpp_sanitized'),
    'mbpp_plus': ('mbpp', 'mbpp_sanitized'),
}


def get(name: str, known: Mapping[str, Task] = TASKS) -> Task:
    """Returns a task by its name.

    Args:
      name: such as 'gsm8k'.
      known: the tasks that there are; the table above by default.

    Raises:
      InputError: on an unknown name, with the closest known one.
    """
    if name not in known:
        closest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise InputError(
            f'unknown task {name!r}: closest is {closest!r}; the list is in '
            'lorajax/tasks/registry.py and lorajax/toy/language.py'
        )
    return known[name]
