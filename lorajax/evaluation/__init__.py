"""From answers to numbers.

    model, adapters, items --evaluate--> outcomes/<task>.jsonl --results.build--> results.json

`inference` decodes and scores batches for many adapters at once, `evaluate` makes outcomes of
them, `outcomes` stores them. `stats` (experiment 1), `ablation_stats` (2 and 3) and `references`
are pure functions of numbers, on `intervals`, `paired` and `loss_gaps`. `ablations` says which
cells experiments 2 and 3 consist of and answers each once. The modules that load a model
(`evaluate`, `inference`, `choices`) are imported by name, so that a report needs none.
"""

from lorajax.evaluation import outcomes, results, stats

__all__ = ['outcomes', 'results', 'stats']
