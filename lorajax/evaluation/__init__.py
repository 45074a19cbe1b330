"""From answers to a report.

    outcomes/<task>.jsonl --results.build--> results.json --report.write--> report/

`evaluate` decodes and scores; `stats`, `intervals`, `paired` and `scaling` are pure functions
of numbers; `seed_sections`, `own_sections` and `failure_modes` say them in words, `figures` in
pictures, and `document` and `html` write both down. Only `stats` is loaded with the package, so
that statistics pull in neither JAX nor matplotlib.
"""

from lorajax.evaluation import stats

__all__ = ['stats']
