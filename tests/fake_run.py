"""A test fixture: a run directory whose outcomes come from a seeded random generator.

No model is behind it. Item difficulty is shared by all methods, so their answers correlate
as those of real methods do; texts hold what an HTML page must survive.
"""

import json
import pathlib

import numpy as np

from lorajax.experiment.workdir import Workdir
from lorajax.io import write_json, write_jsonl

ANCHORS = {
    'math_counting_easy': 'math',
    'math_algebra_easy': 'math',
    'multiarith': 'math',
    'gsm8k': 'math',
    'mbpp': 'code',
    'mbpp_sanitized': 'code',
    'humaneval': 'code',
    'mmlu_high_school_physics': 'science',
    'mmlu_high_school_biology': 'science',
    'mmlu_elementary_math': 'science',
}
HELDOUTS = {
    'gsm_hard': 'math',
    'gsm8k_test_500': 'math',
    'mbpp_test_held': 'code',
    'mbpp_plus': 'code',
    'arc_challenge': 'science',
    'openbookqa_test': 'science',
}
METHODS = [
    'mean',
    'global_ridge',
    'pertensor_ridge',
    'topk8_global_ridge',
    'delta_ridge',
    'placebo',
    'span_oracle',
]
# Base and oracle accuracy, and the share of the gap that each method recovers.
LEVELS = {
    'gsm_hard': (0.06, 0.15),
    'gsm8k_test_500': (0.08, 0.30),
    'mbpp_test_held': (0.23, 0.34),
    'mbpp_plus': (0.22, 0.45),
    'arc_challenge': (0.72, 0.73),
    'openbookqa_test': (0.71, 0.97),
}
SHARES = {
    'base': 0.0,
    'mean': 0.05,
    'global_ridge': 0.16,
    'pertensor_ridge': 0.14,
    'topk8_global_ridge': 0.1,
    'delta_ridge': 0.3,
    'placebo': 0.02,
    'span_oracle': 0.45,
    'oracle': 1.0,
}
HOSTILE = [
    '</script><script>document.title = "forged"</script>',
    '<img src=x onerror="document.title=\'forged\'">',
    '{{ 7 * 7 }} {% raw %} &amp; &lt;b&gt;',
    'line one\u2028line two | a | pipe \\ `tick` \x00\x1b[31m \ud7ff',
    '<!-- <script> -->',
    '',
]


def write_fake_run(
    root: pathlib.Path, n: int = 300, seed: int = 0, experiments: bool = True
) -> Workdir:
    """Writes config, items, outcomes, diagnostics and metrics of a made-up run.

    Args:
      root: directory to fill.
      n: items per held-out (arc_challenge gets one less, as in the seed).
      seed: of the random generator.
      experiments: whether experiments 2 and 3, overlap and metrics are there too.
    """
    workdir = Workdir(pathlib.Path(root))
    generator = np.random.default_rng(seed)
    write_json(workdir.config, _config(n))
    for task, domain in HELDOUTS.items():
        size = n - 1 if task == 'arc_challenge' else n
        write_jsonl(workdir.eval_data(task), _items(task, domain, size))
        rows = _outcomes(task, domain, size, generator)
        write_jsonl(workdir.outcomes(task), rows)
        if experiments:
            _write_extra(workdir, task, size, generator)
    ranked = list(ANCHORS)[:8]
    for method in METHODS:
        write_json(workdir.mapping(method) / 'diagnostics.json', _diagnostics(method, ranked))
    if experiments:
        write_json(workdir.overlap, _overlap(n))
        write_jsonl(workdir.metrics, _metrics(generator))
    return workdir


def _config(n: int) -> dict:
    return {
        'source_model': 'fixture/Source-3B',
        'target_model': 'fixture/Target-3B',
        'anchors': list(ANCHORS),
        'heldouts': list(HELDOUTS),
        'methods': METHODS,
        'domains': ANCHORS | HELDOUTS,
        'selected_method': 'delta_ridge',
        'seed': 0,
        'eval_per_task': n,
        'train_per_task': 1500,
        'lora_rank': 16,
        'lora_alpha': 32,
        'lora_targets': ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
        'num_epochs': 3,
        'learning_rate': 2e-4,
        'dtype': 'bfloat16',
        'max_len': 512,
        'batch_size': 8,
        'protocol': 'direct',
        'allow_code_execution': False,
        'versions': {'jax': '0.10.2', 'lorajax': '0.1.0'},
        'git_commit': '0000000',
        'hashes': {'data': {'gsm_hard': 'ab' * 32}},
    }


def _overlap(n: int) -> dict:
    none = {'id': 0, 'exact': 0, 'ngram13': 0}
    return {
        'ngram': 13,
        'train': dict.fromkeys([*ANCHORS, *HELDOUTS], 1500),
        'eval': dict.fromkeys(HELDOUTS, n),
        'cells': {task: dict.fromkeys(HELDOUTS, none) for task in [*ANCHORS, *HELDOUTS]},
        'shared_training': {task: {} for task in ANCHORS} | {'mbpp': {'mbpp_sanitized': 120}},
    }


def _items(task: str, domain: str, n: int) -> list[dict]:
    family = {'gsm_hard': 'gsm8k', 'gsm8k_test_500': 'gsm8k'}.get(task, task)
    return [
        {
            'item': f'{task}/{i}',
            'prompt': f'Question {i} of {task}: what is {i} + {i}? {HOSTILE[i % len(HOSTILE)]}',
            'answer': str(2 * i),
            'reference': str(2 * i) if domain != 'science' else 'ABCD'[i % 4],
            'problem_ids': [f'{family}/test/{i}'],
            'meta': {},
        }
        for i in range(n)
    ]


def _outcomes(task: str, domain: str, n: int, generator: np.random.Generator) -> list[dict]:
    base, oracle = LEVELS[task]
    difficulty = generator.normal(size=n)
    rows = []
    for method, share in SHARES.items():
        rate = base + share * (oracle - base)
        score = 0.9 * difficulty + 0.4 * generator.normal(size=n)
        right = score <= np.quantile(score, rate)
        loss = 1.5 + 0.4 * difficulty - 0.6 * share + 0.05 * generator.normal(size=n)
        for i in range(n):
            prediction = str(2 * i) if right[i] else HOSTILE[int(generator.integers(6))]
            rows.append({
                'task': task,
                'method': method,
                'item': f'{task}/{i}',
                'correct': bool(right[i]),
                'prediction': prediction,
                'reference': str(2 * i) if domain != 'science' else 'ABCD'[i % 4],
                'nll': float(loss[i]),
                'details': {'parsed': prediction or None, 'truncated': i % 50 == 0},
            })  # fmt: skip
    return rows


def _write_extra(workdir: Workdir, task: str, n: int, generator: np.random.Generator) -> None:
    base, oracle = LEVELS[task]
    scaling, transfer = [], []
    for anchors in (4, 8, 10):
        for top_k in (1, 2, 4, 'all'):
            for draw in range(3):
                share = 0.3 * (1 - np.exp(-anchors / 5)) + 0.03 * generator.normal()
                share *= {1: 0.5, 2: 0.7, 4: 0.9, 'all': 1.0}[top_k]
                scaling += [
                    {
                        'task': task,
                        'method': 'global_ridge',
                        'item': f'{task}/{i}',
                        'correct': bool(generator.random() < base + share * (oracle - base)),
                        'prediction': '',
                        'reference': '',
                        'nll': None,
                        'anchors': anchors,
                        'top_k': top_k,
                        'draw': draw,
                    }
                    for i in range(0, n, 3)
                ]
    for pool in ('math', 'code', 'science', 'all'):
        for method in ('global_ridge', 'topk8_global_ridge'):
            share = 0.25 if pool in (HELDOUTS[task], 'all') else 0.05
            ranked = [a for a in ANCHORS if pool in (ANCHORS[a], 'all')][:3]
            transfer += [
                {
                    'task': task,
                    'method': method,
                    'item': f'{task}/{i}',
                    'correct': bool(generator.random() < base + share * (oracle - base)),
                    'prediction': '',
                    'reference': '',
                    'nll': None,
                    'pool': pool,
                }
                | ({'selected': ranked} if method.startswith('topk') else {})
                for i in range(n)
            ]
    write_jsonl(workdir.root / 'outcomes' / 'experiment2' / f'{task}.jsonl', scaling)
    write_jsonl(workdir.root / 'outcomes' / 'experiment3' / f'{task}.jsonl', transfer)


def _diagnostics(method: str, ranked: list[str]) -> dict:
    values: dict = {
        'loo_r2': 0.21,
        'ridge_lambda': 0.3,
        'fit_seconds': 1.25,
        'weights': {task: [0.1] * len(ANCHORS) for task in HELDOUTS},
    }
    if method.startswith('topk'):
        values['selected'] = dict.fromkeys(HELDOUTS, ranked)
    if method == 'delta_ridge':
        tasks = [*ANCHORS, *HELDOUTS]
        vectors = np.random.default_rng(1).normal(size=(len(tasks), 24))
        domains = (ANCHORS | HELDOUTS).values()
        for row, domain in enumerate(domains):
            vectors[row, ['math', 'code', 'science'].index(domain)] += 5
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        values['similarity'] = {
            'tasks': tasks,
            'source': (vectors @ vectors.T).round(4).tolist(),
        }
    return values


def _metrics(generator: np.random.Generator) -> list[dict]:
    rows = []
    tasks = [*ANCHORS, *HELDOUTS]
    for side in ('source', 'target'):
        for step in range(0, 200, 5):
            loss = 0.3 + 1.7 * np.exp(-step / 40) + 0.1 * generator.normal(size=len(tasks))
            rows.append({
                'event': 'train',
                'side': side,
                'step': step,
                'tasks': tasks,
                'loss': np.abs(loss).round(4).tolist(),
                'tokens_per_second': float(30000 + 800 * generator.normal()),
            })  # fmt: skip
    return rows


if __name__ == '__main__':
    import sys

    run = write_fake_run(pathlib.Path(sys.argv[1]))
    print(json.dumps(sorted(str(p.relative_to(run.root)) for p in run.root.rglob('*.json*'))))
