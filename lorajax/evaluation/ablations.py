"""Experiments 2 and 3: the same held-outs with fewer, nearer, or other anchors.

Nothing is trained for them. A cell is a method fitted on some of the anchors' adapters; a cell
that both experiments ask for is answered once, and one that the main table holds (all anchors,
one of its methods) is copied from there.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from lorajax import mapping, processes
from lorajax.evaluation import outcomes
from lorajax.rng import generator
from lorajax.types import Adapter

Outcomes = list[outcomes.Row]
# (task, {name: adapter}) -> outcome rows with the names as methods.
Score = Callable[[str, Mapping[str, Adapter | None]], Outcomes]

# Cells decoded in one batch where adapters_per_step leaves it open: enough to fill two CPU
# cores, and few enough that their predictions fit in memory.
_GROUP = 16


@dataclasses.dataclass(frozen=True)
class Cell:
    """A method, fitted on the adapters of some anchors (sorted)."""

    method: str
    anchors: tuple[str, ...]

    @property
    def name(self) -> str:
        """Short and unique."""
        tasks = hashlib.sha256(json.dumps(self.anchors).encode()).hexdigest()[:12]
        return f'{self.method}-{len(self.anchors)}-{tasks}'


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of an experiment's table: a cell, and the labels of its outcomes."""

    cell: Cell
    labels: Mapping[str, Any]


Plan = dict[str, list[Row]]  # by 'experiment2' and 'experiment3'


def anchor_scaling(
    anchors: Sequence[str],
    counts: Sequence[int],
    top_k: Sequence[int],
    draws: int,
    methods: Sequence[str],
    seed: int,
) -> list[Row]:
    """Experiment 2: number of anchors x number of nearest ones used.

    Each draw is one order of all anchors; its first `count` are taken, so that a draw's curve
    over counts adds anchors to those before. All anchors make one draw.

    Args:
      anchors: of the run.
      counts: numbers of anchors; larger ones than there are count as all.
      top_k: numbers of nearest anchors, beside all of them; those below the count are used.
      draws: orders of the anchors.
      methods: 'global_ridge' and 'pertensor_ridge' are restricted to the nearest; others are
        fitted on all drawn anchors only.
      seed: of the draws.

    Returns:
      Rows with labels method, anchors, top_k (a number or 'all'), draw.
    """
    rows = []
    for count in sorted({min(count, len(anchors)) for count in counts}):
        for draw in range(draws if count < len(anchors) else 1):
            order = generator(seed, f'anchor draw {draw}').permutation(sorted(anchors))
            drawn = tuple(sorted(order[:count].tolist()))
            for method in methods:
                nearest = method in ('global_ridge', 'pertensor_ridge')
                for k in [*(k for k in sorted(top_k) if nearest and k < count), None]:
                    name = f'topk{k}_{method}' if k else method
                    labels = {'method': method, 'anchors': count, 'top_k': k or 'all', 'draw': draw}
                    rows.append(Row(Cell(name, drawn), labels))
    return rows


def domain_transfer(
    anchors: Sequence[str], domains: Mapping[str, str], methods: Sequence[str]
) -> list[Row]:
    """Experiment 3: anchors of one domain, and all of them, for every held-out.

    Args:
      anchors: of the run.
      domains: {task: domain}.
      methods: fitted on each pool.

    Returns:
      Rows with labels method and pool (a domain or 'all').
    """
    pools = {
        domain: tuple(sorted(task for task in anchors if domains[task] == domain))
        for domain in dict.fromkeys(domains[task] for task in anchors)
    }
    pools['all'] = tuple(sorted(anchors))
    return [
        Row(Cell(method, pool), {'method': method, 'pool': name})
        for name, pool in pools.items()
        for method in methods
    ]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What answering a plan needs.

    Attributes:
      source, target: all anchors of the run.
      queries: source adapter of each held-out.
      options: of `mapping.fit`.
      main: outcomes of the main table on the studied items, {task: {method: rows}}.
      group: cells decoded together; 0 for a default.
    """

    source: mapping.Anchors
    target: mapping.Anchors
    queries: Mapping[str, Adapter]
    options: Mapping[str, Any]
    main: Mapping[str, Mapping[str, Outcomes]]
    group: int = 0


def answer(
    plan: Plan, inputs: Inputs, score: Score, scratch: pathlib.Path
) -> dict[str, dict[str, Outcomes]]:
    """Answers every cell, each once.

    Args:
      plan: the experiments.
      inputs: see `Inputs`.
      score: decodes and judges adapters on a held-out's items.
      scratch: directory for finished groups of cells, so that a killed run goes on with the group
        it was at; the caller removes it once the outcomes are stored.

    Returns:
      {experiment: {task: outcome rows}}, rows with the labels of their lines; a row of a top-k
      method also has 'selected', its anchors by falling similarity.

    Raises:
      InputError: if an adapter holds NaN or infinity, a cell's method is unknown, or a file below
        `scratch` is damaged.
    """
    cells = list(dict.fromkeys(row.cell for rows in plan.values() for row in rows))
    known = {c for c in cells if _in_main_table(c, inputs)}
    answers: dict[str, dict[Cell, Outcomes]] = {
        task: {cell: inputs.main[task][cell.method] for cell in known} for task in inputs.queries
    }
    for group in _groups([c for c in cells if c not in known], inputs.group or _GROUP):
        for task, rows in _answer_group(group, inputs, score, scratch).items():
            answers[task] |= rows
    return {
        experiment: {
            task: [{**row, **line.labels} for line in lines for row in by_cell[line.cell]]
            for task, by_cell in answers.items()
        }
        for experiment, lines in plan.items()
    }


def _in_main_table(cell: Cell, inputs: Inputs) -> bool:
    """Returns whether the main table answers a cell."""
    return cell.anchors == inputs.source.tasks and all(
        cell.method in methods for methods in inputs.main.values()
    )


def _groups(cells: Sequence[Cell], size: int) -> Iterator[list[Cell]]:
    """Splits cells into groups of nearly equal size, so that few shapes are compiled."""
    count = -(-len(cells) // size)
    for indices in np.array_split(np.arange(len(cells)), count) if count else []:
        yield [cells[i] for i in indices]


def _answer_group(
    group: Sequence[Cell], inputs: Inputs, score: Score, scratch: pathlib.Path
) -> dict[str, dict[Cell, Outcomes]]:
    """Outcomes of one group of cells on every held-out, stored as they come."""
    name = hashlib.sha256(''.join(cell.name for cell in group).encode()).hexdigest()[:12]
    by_name = {cell.name: cell for cell in group}
    predict = functools.cache(lambda: {cell.name: _predict(cell, inputs) for cell in group})
    answers: dict[str, dict[Cell, Outcomes]] = {}
    for task in inputs.queries:
        path = scratch / name / f'{task}.jsonl'
        if not processes.on_first(path.exists):
            predictions = {cell: by_task[task] for cell, by_task in predict().items()}
            rows = score(task, {cell: p.adapter for cell, p in predictions.items()})
            for row in rows:
                if by_name[row['method']].method.startswith('topk'):
                    row['selected'] = predictions[row['method']].report['selected']
            processes.on_first(functools.partial(outcomes.write, path, rows))
        answers[task] = {cell: [] for cell in group}
        for row in outcomes.read(path, task):
            answers[task][by_name[row['method']]].append(row)
    return answers


def _predict(cell: Cell, inputs: Inputs) -> dict[str, mapping.Prediction]:
    """Fits one cell and translates every held-out's source adapter."""
    fitted = mapping.fit(
        cell.method,
        inputs.source.subset(cell.anchors),
        inputs.target.subset(cell.anchors),
        **inputs.options,
    )
    logging.info('%s on %d anchors', cell.method, len(cell.anchors))
    return fitted.explain_many(inputs.queries)
