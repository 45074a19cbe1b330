"""A made-up run whose outcomes come from a seeded random generator, in memory or in files.

No model is behind it. Item difficulty is shared by all methods, so their answers correlate
as those of real methods do; texts hold what an HTML page must survive.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from lorajax import report
from lorajax.evaluation import outcomes, results
from lorajax.evaluation.outcomes import Table
from lorajax.io import write_json, write_jsonl

if TYPE_CHECKING:
    from lorajax.experiment.workdir import Workdir

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


@dataclasses.dataclass
class FakeRun:
    """What the files of a run hold.

    Attributes:
      config: config.json.
      eval_items: {task: rows of data/eval}.
      outcomes: {task: rows}.
      ablations: {'experiment2' or 'experiment3': {task: rows}}.
      diagnostics: {method: diagnostics.json}.
      selected_method: of mappings/selection.json.
      overlap: data/overlap.json.
      metrics: rows of metrics.jsonl.
    """

    config: dict
    eval_items: dict[str, list[dict]]
    outcomes: dict[str, list[dict]]
    ablations: dict[str, dict[str, list[dict]]]
    diagnostics: dict[str, dict]
    selected_method: str
    overlap: dict | None
    metrics: list[dict]

    @property
    def tables(self) -> dict[str, Table]:
        """The outcomes as `outcomes.read_table` returns them."""
        return {task: outcomes.make_table(rows, task) for task, rows in self.outcomes.items()}

    def results(self) -> dict:
        """Returns the content of results.json."""
        return results.build(
            self.config,
            self.tables,
            eval_items=self.eval_items,
            ablations=self.ablations,
            diagnostics=self.diagnostics,
            selected_method=self.selected_method,
        )

    def write_report(self, directory: pathlib.Path) -> None:
        """Writes the report of the run."""
        report.write(
            directory,
            self.results(),
            self.config,
            outcomes=self.tables,
            eval_items=self.eval_items,
            metrics=self.metrics,
            overlap=self.overlap,
            diagnostics=self.diagnostics,
        )

    def write(self, root: pathlib.Path) -> 'Workdir':
        """Writes the files of the run, all but results.json and the report."""
        from lorajax.experiment.workdir import Workdir  # above what most tests here need

        files = Workdir(pathlib.Path(root))
        write_json(files.config, self.config)
        for task, rows in self.eval_items.items():
            write_jsonl(files.eval_data(task), rows)
            outcomes.write(files.outcomes(task), self.outcomes[task])
        for experiment, by_task in self.ablations.items():
            for task, rows in by_task.items():
                outcomes.write(files.study_outcomes(experiment, task), rows)
        for method, values in self.diagnostics.items():
            write_json(files.mapping(method) / 'diagnostics.json', values)
        write_json(files.selection, {'selected_method': self.selected_method})
        if self.overlap:
            write_json(files.overlap, self.overlap)
        if self.metrics:
            write_jsonl(files.metrics, self.metrics)
        return files


def make_fake_run(n: int = 300, seed: int = 0, experiments: bool = True) -> FakeRun:
    """Makes up config, items, outcomes, diagnostics and metrics of a run.

    Args:
      n: items per held-out (arc_challenge gets one less, as in the seed).
      seed: of the random generator.
      experiments: whether experiments 2 and 3, overlap and metrics are there too.
    """
    generator = np.random.default_rng(seed)
    sizes = {task: n - 1 if task == 'arc_challenge' else n for task in HELDOUTS}
    answers, ablations = {}, {}
    for task, domain in HELDOUTS.items():
        answers[task] = _outcomes(task, domain, sizes[task], generator)
        if experiments:
            for name, rows in _ablations(task, sizes[task], generator).items():
                ablations.setdefault(name, {})[task] = rows
    return FakeRun(
        config=_config(n),
        eval_items={task: _items(task, d, sizes[task]) for task, d in HELDOUTS.items()},
        outcomes=answers,
        ablations=ablations,
        diagnostics={method: _diagnostics(method, list(ANCHORS)[:8]) for method in METHODS},
        selected_method='delta_ridge',
        overlap=_overlap(n) if experiments else None,
        metrics=_metrics(generator) if experiments else [],
    )


def _config(n: int) -> dict:
    return {
        'source_model': 'fixture/Source-3B',
        'target_model': 'fixture/Target-3B',
        'anchors': list(ANCHORS),
        'heldouts': list(HELDOUTS),
        'methods': METHODS,
        'domains': ANCHORS | HELDOUTS,
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


def _ablations(task: str, n: int, generator: np.random.Generator) -> dict[str, list[dict]]:
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
    return {'experiment2': scaling, 'experiment3': transfer}


def _diagnostics(method: str, ranked: list[str]) -> dict:
    values: dict = {
        'loo_r2': 0.21,
        'ridge_lambda': 0.3,
        'fit_seconds': 1.25,
        'weights': {task: [0.1] * len(ANCHORS) for task in HELDOUTS},
    }
    if method.startswith('topk'):
        values['predictions'] = {task: {'selected': ranked} for task in HELDOUTS}
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

    from lorajax.experiment.stages.report import rebuild_report

    rebuild_report(make_fake_run().write(pathlib.Path(sys.argv[1])))
