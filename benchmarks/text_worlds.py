"""What of a text task arrives: `python -m benchmarks.text_worlds --runs=runs/text[,...]`.

Reads the outcomes of runs of launch/text.flags and launch/text_second.flags. An answer is right
when its format is and the word in it; a table has both apart, and the pooled shares of the gap
with 95 % intervals over held-outs: these are drawn again, with all their methods. Of several runs
it also prints the shares over all of them, for which runs are drawn again and held-outs in each,
and draws `--figure`. Prints answers to some prompts, too.

`--own_prompts` also trains on what the source answers to the held-outs' own training prompts, whose
labels nobody reads (a run's 'distilled' asks the anchors' prompts), from the reweighted adapter on;
and it scores the teachers. `--controls` adds a fresh adapter, another held-out's teacher as placebo
and, from the map on, answers to half of the prompts of which 'distilled' chose the surest half, and
to 8 and 32 own prompts, a quarter kept out, as `translate` trains.
Kept in `own_prompts.jsonl`.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags

from lorajax import io
from lorajax.distillation import ladder, material, pseudo_labels, teacher
from lorajax.distillation.material import Row
from lorajax.distillation.reweight import truncate
from lorajax.evaluation import evaluate as evaluation
from lorajax.experiment import anchor_rows, models, options
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import load_predicted, load_trained
from lorajax.experiment.config import Experiment
from lorajax.tasks import examples
from lorajax.tasks.chat import Encoded
from lorajax.text.skills import FORMATS
from lorajax.training import train_adapters

_DRAWS = 4000
_FEW = (8, 32)  # prompts of a user
_POOLED = (
    'mean', 'nearest', 'matched_ridge', 'matched_scaled', 'placebo', 'span_oracle_tensor',
    'reweighted', 'distilled', 'own prompts', 'source, its adapter', 'repeated',
)  # fmt: skip
_SHOWN = ('base', 'mean', 'matched_scaled', 'reweighted', 'distilled', 'oracle')

Outcomes = dict[str, dict[str, np.ndarray]]  # task -> method -> float[4]: right, format, word, nats
Rows = dict[str, list[Encoded]]


def parts(task: str, prediction: str, reference: str) -> tuple[bool, bool]:
    """Returns whether a prediction has its task's format, and whether the word in it is right."""
    write = FORMATS[task.split('_')[-1]]
    mark = 'MARK'
    pattern = re.escape(write(mark)).replace(mark, r'(\S+)', 1).replace(mark, r'\S+')
    word = re.fullmatch(pattern, reference)
    assert word is not None
    found = re.fullmatch(pattern, prediction.strip())
    return found is not None, word[1] in re.findall(r'\w+', prediction)


def read(workdir: pathlib.Path) -> Outcomes:
    """Returns the means of all tasks and methods of a run."""
    values: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    more = workdir / 'own_prompts.jsonl'
    paths = sorted((workdir / 'outcomes').glob('*.jsonl')) + ([more] if more.exists() else [])
    for row in (dict(row) for path in paths for row in io.read_jsonl(path)):
        form, word = parts(row['task'], row['prediction'], row['reference'])
        seen = row['correct'], form, word, row['nll']
        values.setdefault(row['task'], {}).setdefault(row['method'], []).append(seen)
    return {
        task: {method: np.mean(rows, 0) for method, rows in of.items()}
        for task, of in values.items()
    }


def experiment_of(workdir: pathlib.Path) -> Experiment:
    """Returns the settings that a run was made with."""
    stored = io.read_json(workdir / 'config.json')
    values = {name: stored[name] for name in options.options_of(Experiment) if name in stored}
    lists = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Experiment(**{**lists, 'workdir': str(workdir)})


def own_prompts(experiment: Experiment, controls: bool) -> list[dict[str, Any]]:
    """Trains on answers to the held-outs' own prompts; returns outcomes of these adapters."""
    source, chat = models.load_side(experiment, 'source')
    target, target_chat = models.load_side(experiment, 'target')
    limits = {
        'batch_size': experiment.eval_batch_size,
        'max_len': experiment.max_len,
        'max_new_tokens': experiment.max_new_tokens,
    }
    teachers = {t: load_trained(experiment, 'source', t) for t in experiment.heldouts}
    prompts = {
        task: [row.prompt for row in examples.read(experiment.files.train_data(task))]
        for task in teachers
    }

    def asked(teacher_of: Mapping[str, str], theirs: Mapping[str, list[str]]) -> Rows:
        """Answers of a teacher to prompts, in the target's tokens."""
        rows = {}
        for task, its_prompts in theirs.items():
            one = {task: teachers[teacher_of[task]]}
            answers = teacher.answer(source, chat, one, its_prompts, **limits)[task]
            rows[task] = [
                target_chat.encode(pseudo_labels.example(task, prompt, answer.text))
                for prompt, answer in zip(its_prompts, answers, strict=True)
                if np.isfinite(answer.nll)
            ]
        return rows

    start, mapped = (
        {
            task: truncate(load_predicted(experiment, method, task), experiment.lora_rank)
            for task in teachers
        }
        for method in ('reweighted', experiment.distill_from)
    )
    train = functools.partial(
        train_adapters, target, config=experiment.train_config, pad_id=target_chat.pad_id
    )
    own = asked({task: task for task in teachers}, prompts)
    made = {'own prompts': train(own, start_from=start)}
    if controls:
        others = _of_another_skill(list(teachers))
        some = anchor_rows.interleaved(experiment)[: 2 * experiment.train_per_task : 2]
        any_rows = asked({t: t for t in teachers}, {t: [r.prompt for r in some] for t in teachers})
        made |= {
            'own prompts, fresh': train(own),
            'own prompts, another teacher': train(asked(others, prompts), start_from=start),
            "anchors' prompts, any answers": train(any_rows, start_from=mapped),
        }
        for count in _FEW:
            few = {task: material.split([*map(Row, own[task][:count])]).learn for task in own}
            rows = {task: [row.encoded for row in learned] for task, learned in few.items()}
            recipe = dataclasses.replace(
                experiment.train_config,
                num_epochs=ladder.LEAST_SEEN / min(map(len, rows.values())),
            )
            made[f'{count} own prompts, from the map'] = train(
                rows, config=recipe, start_from=mapped
            )
    found = []
    for task in teachers:
        score = functools.partial(
            evaluation.evaluate,
            task=tasks_by_name.get(task),
            examples=examples.read(experiment.files.eval_data(task)),
            **limits,
        )
        theirs = {way: by_task[task] for way, by_task in made.items()}
        mine = {'source, its adapter': teachers[task]}
        found += score(target, target_chat, adapters=theirs)
        found += score(source, chat, adapters=mine)
    return found


def _of_another_skill(tasks: Sequence[str]) -> dict[str, str]:
    """Returns for each held-out the next one, round the end, that asks another skill."""
    found = {}
    for index, task in enumerate(tasks):
        behind = [*tasks[index:], *tasks[:index]]
        found[task] = next(o for o in behind if o.split('_')[1] != task.split('_')[1])
    return found


def values_of(outcomes: Outcomes, method: str) -> np.ndarray:
    """Returns float[tasks, 3, 4]: of the base, the method and the oracle."""
    return np.array([[of[m] for m in ('base', method, 'oracle')] for of in outcomes.values()])


def gap(runs: Sequence[np.ndarray], column: int) -> tuple[float, float, float]:
    """Returns the pooled share of the gap and its interval.

    Args:
      runs: float[tasks, 3, 4] each, see `values_of`; drawn again if they are several, and the
        tasks in each.
      column: what counts.
    """
    rng = np.random.default_rng(0)
    gains = [(v[:, 1:, column] - v[:, :1, column]) for v in runs]  # tasks 2: method, oracle
    shares = []
    for _ in range(_DRAWS):
        drawn = [gains[i] for i in rng.integers(len(gains), size=len(gains))]
        total = sum(g[rng.integers(len(g), size=len(g))].sum(0) for g in drawn)
        shares.append(total[0] / total[1])
    method, oracle = sum(g.sum(0) for g in gains)
    low, high = np.quantile(shares, [0.025, 0.975])
    return method / oracle, low, high


def table(outcomes: Outcomes) -> str:
    """Returns a Markdown table, one line a method."""
    lines = [
        '| method | right | format | word | gap, right | gap, nats |',
        '| --- | ---: | ---: | ---: | --- | --- |',
    ]
    for method in next(iter(outcomes.values())):
        values = values_of(outcomes, method)
        means = values[:, 1].mean(0)
        cells = [f'{mean:.2f}' for mean in means[:3]]
        cells += ['{:.2f} [{:.2f}, {:.2f}]'.format(*gap([values], column)) for column in (0, 3)]
        lines.append(f'| {method} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def by_task(outcomes: Outcomes) -> str:
    """Returns a Markdown table of the share of right answers, one line a held-out."""
    methods = list(next(iter(outcomes.values())))
    lines = ['| held-out | ' + ' | '.join(methods) + ' |', '| --- |' + ' ---: |' * len(methods)]
    for task, of in outcomes.items():
        lines.append(f'| {task} | ' + ' | '.join(f'{of[m][0]:.2f}' for m in methods) + ' |')
    return '\n'.join(lines) + '\n'


def texts(workdir: pathlib.Path, task: str, count: int) -> str:
    """Returns answers of some methods to the first prompts of a held-out."""
    rows = [dict(row) for row in io.read_jsonl(workdir / 'outcomes' / f'{task}.jsonl')]
    items = list(dict.fromkeys(row['item'] for row in rows))[:count]
    lines = []
    for item in items:
        mine = {row['method']: row for row in rows if row['item'] == item}
        lines.append(f'{item}, right: {mine["base"]["reference"]}')
        lines += [f'  {m}: {mine[m]["prediction"]}' for m in _SHOWN if m in mine]
    return '\n'.join(lines) + '\n'


def common(runs: Mapping[str, Outcomes]) -> list[str]:
    """Returns which methods of `_POOLED` all runs have."""
    known = [set(next(iter(outcomes.values()))) for outcomes in runs.values()]
    return [method for method in _POOLED if all(method in methods for methods in known)]


def pooled(runs: Mapping[str, Outcomes]) -> str:
    """Returns a Markdown table of the gap recovered over all runs, one line a method."""
    lines = ['| method | gap, right | gap, nats |', '| --- | --- | --- |']
    for method in common(runs):
        values = [values_of(outcomes, method) for outcomes in runs.values()]
        cells = ['{:.2f} [{:.2f}, {:.2f}]'.format(*gap(values, column)) for column in (0, 3)]
        lines.append(f'| {method} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def draw(path: pathlib.Path, runs: Mapping[str, Outcomes]) -> None:
    """Draws the gap in right answers and in loss, with intervals, a colour a run."""
    methods = common(runs)
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout='constrained')
    for axes, column, title in zip(panels, (0, 3), ('right answers', 'loss'), strict=True):
        for index, (name, outcomes) in enumerate(runs.items()):
            found = np.array([gap([values_of(outcomes, m)], column) for m in methods])
            heights = np.arange(len(methods)) + 0.2 * (index - (len(runs) - 1) / 2)
            bars = abs(found[:, 1:].T - found[:, 0])
            axes.errorbar(found[:, 0], heights, xerr=bars, fmt='o', capsize=2, label=name)
        axes.axvline(0, color='grey', linewidth=0.5)
        axes.axvline(1, color='grey', linewidth=0.5)
        axes.set_xlim(-0.5, 1.2)
        axes.set_xlabel(f'gap recovered, {title}')
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].invert_yaxis()
    panels[1].legend(fontsize=8, loc='lower left')
    figure.savefig(path, dpi=90)


def main(argv: Sequence[str]) -> None:
    """Prints the tables and some texts, and draws the figure."""
    del argv
    args = flags.FLAGS
    runs = {}
    for workdir in map(pathlib.Path, args.runs):
        more = workdir / 'own_prompts.jsonl'
        if args.own_prompts and not more.exists():
            io.write_jsonl(more, own_prompts(experiment_of(workdir), args.controls))
        runs[workdir.name] = outcomes = read(workdir)
        print(workdir.name, table(outcomes), by_task(outcomes), sep='\n\n')
        for task in [t for t in args.texts if t in outcomes] or list(outcomes)[:1]:
            print(texts(workdir, task, 3))
    if len(runs) > 1:
        print(pooled(runs))
    if args.figure:
        draw(pathlib.Path(args.figure), runs)


if __name__ == '__main__':
    flags.DEFINE_list('runs', None, 'their directories', required=True)
    flags.DEFINE_bool('own_prompts', False, 'also train on answers to the own prompts')
    flags.DEFINE_bool('controls', False, 'and on what these are held against')
    flags.DEFINE_string('figure', '', 'where it is drawn')
    flags.DEFINE_list('texts', [], 'held-outs whose answers are shown; the first if none')
    app.run(main)
