"""What of a text task arrives: `python -m benchmarks.text_worlds --workdir=runs/text`.

Reads the outcomes of a run of launch/text.flags. An answer is right when its format is and the word
in it; the table has both apart, and the pooled shares of the gap with 95 % intervals over
held-outs: these are drawn again, with all their methods. Prints answers to some prompts, too.

`--own_prompts` also trains on what the source answers to the held-outs' own training prompts, whose
labels nobody reads (a run's 'distilled' asks the anchors' prompts): from a fresh adapter, from the
reweighted one on, and to another held-out's teacher, a placebo. From the map on it trains
on answers to half of the prompts of which 'distilled' chose the surest half; and it scores the
teachers. Kept in `own_prompts.jsonl`.
"""

import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from lorajax import io
from lorajax.distillation import pseudo_labels, teacher
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
_SHOWN = ('base', 'mean', 'matched_scaled', 'reweighted', 'distilled', 'oracle')

Outcomes = dict[str, dict[str, np.ndarray]]  # task -> method -> float[4]: right, format, word, nats


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
    paths = sorted((workdir / 'outcomes').glob('text_*.jsonl')) + ([more] if more.exists() else [])
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


def own_prompts(experiment: Experiment) -> list[dict[str, Any]]:
    """Trains on answers to the held-outs' own prompts; returns outcomes of these adapters."""
    source, chat = models.load_side(experiment, 'source')
    target, target_chat = models.load_side(experiment, 'target')
    limits = {
        'batch_size': experiment.eval_batch_size,
        'max_len': experiment.max_len,
        'max_new_tokens': experiment.max_new_tokens,
    }
    teachers = {t: load_trained(experiment, 'source', t) for t in experiment.heldouts}
    others = dict(zip(teachers, [*list(teachers)[2:], *list(teachers)[:2]], strict=True))
    rows: dict[str, dict[str, list[Encoded]]] = {'own': {}, 'other': {}, 'any': {}}
    any_rows = anchor_rows.interleaved(experiment)[: 2 * experiment.train_per_task : 2]
    answered = teacher.answer(source, chat, teachers, [row.asked for row in any_rows], **limits)
    for task in teachers:
        prompts = [row.prompt for row in examples.read(experiment.files.train_data(task))]
        asked = {'own': teachers[task], 'other': teachers[others[task]]}
        said = teacher.answer(source, chat, asked, prompts, **limits)
        others_prompts = [row.prompt for row in any_rows]
        given = {kind: (prompts, answers) for kind, answers in said.items()}
        given['any'] = others_prompts, answered[task]
        for kind, pairs in given.items():
            rows[kind][task] = [
                target_chat.encode(pseudo_labels.example(task, prompt, answer.text))
                for prompt, answer in zip(*pairs, strict=True)
                if np.isfinite(answer.nll)
            ]
    start, mapped = (
        {task: load_predicted(experiment, method, task) for task in teachers}
        for method in ('reweighted', experiment.distill_from)
    )
    train = functools.partial(
        train_adapters, target, config=experiment.train_config, pad_id=target_chat.pad_id
    )
    made = {
        'own prompts': train(rows['own'], start_from=start),
        'own prompts, fresh': train(rows['own']),
        'own prompts, another teacher': train(rows['other'], start_from=start),
        "anchors' prompts, any answers": train(rows['any'], start_from=mapped),
    }
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


def gap(values: np.ndarray, column: int) -> tuple[float, float, float]:
    """Returns the pooled share of the gap and its interval, of float[tasks, 3, 4] values."""
    base, method, oracle = values[:, :, column].T
    draws = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    shares = (method - base)[draws].sum(1) / (oracle - base)[draws].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return (method - base).sum() / (oracle - base).sum(), low, high


def table(outcomes: Outcomes) -> str:
    """Returns a Markdown table, one line a method."""
    lines = [
        '| method | right | format | word | gap, right | gap, nats |',
        '| --- | ---: | ---: | ---: | --- | --- |',
    ]
    for method in next(iter(outcomes.values())):
        values = np.array([[of[m] for m in ('base', method, 'oracle')] for of in outcomes.values()])
        means = values[:, 1].mean(0)
        cells = [f'{mean:.2f}' for mean in means[:3]]
        cells += ['{:.2f} [{:.2f}, {:.2f}]'.format(*gap(values, column)) for column in (0, 3)]
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


def main(argv: Sequence[str]) -> None:
    """Prints the tables and some texts."""
    del argv
    workdir = pathlib.Path(flags.FLAGS.workdir)
    more = workdir / 'own_prompts.jsonl'
    if flags.FLAGS.own_prompts and not more.exists():
        io.write_jsonl(more, own_prompts(experiment_of(workdir)))
    outcomes = read(workdir)
    print(table(outcomes))
    print(by_task(outcomes))
    for task in flags.FLAGS.texts or list(outcomes)[:1]:
        print(texts(workdir, task, 3))


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'of the run', required=True)
    flags.DEFINE_bool('own_prompts', False, 'also train on answers to the own prompts')
    flags.DEFINE_list('texts', [], 'held-outs whose answers are shown; the first if none')
    app.run(main)
