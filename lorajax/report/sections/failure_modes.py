"""What a reader should hold against the run, found in its own numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lorajax.evaluation.stats import USABLE_PP
from lorajax.report.document import Bullets, Section
from lorajax.report.sections.seed import Results

# What a way of scoring cannot see, by the entry of the outcomes' details that betrays it.
SCORING_LIMITS = {
    'parsed': 'Math uses numeric extraction and equality; formatting or non-numeric generations '
    'are counted wrong: {}.',
    'letter': 'Multiple choice goes by the letter that the answer states; an answer without one '
    'is counted wrong: {}.',
    'by=proxy': 'Code is judged by answer-string/span matching, not by sandboxed unit tests; '
    'code numbers are proxies, not pass@1: {}.',
}


def failure_modes(results: Results) -> Section:
    """Lists limits of the run: the seed's kinds first, then what our statistics show."""
    part = results['experiment1']
    items = [
        *_rows(part['rows']),
        *_scorers(part['rows']),
        *_rates(part['rows']),
        *_methods(part),
        *_losses(part),
        *_statistics(part),
        *_missing(results),
    ]
    return Section('Honest failure modes', [Bullets(items)])


def _rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Rows out of the averages, and rows on which the two usable rules disagree."""
    for row in rows:
        gap = row['oracle_minus_base_pp']
        if gap is None:
            yield f'{row["task"]} has no items.'
            continue
        low, high = row['oracle_minus_base_ci95_pp']
        if not row['usable']:
            yield f'Excluded from averages: {row["task"]} has oracle-base = {gap:.2f} pp.'
        if row['usable'] != row['usable_ci']:
            relation = 'excludes' if row['usable_ci'] else 'includes'
            yield (
                f'{row["task"]}: oracle-base = {gap:.2f} pp, its interval [{low:.2f}, {high:.2f}] '
                f'{relation} 0, so the {USABLE_PP} pp rule and the interval rule disagree.'
            )


def _scorers(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the scorers in use cannot see."""
    for entry, limit in SCORING_LIMITS.items():
        tasks = [row['task'] for row in rows if any(row.get('details', {}).get(entry, {}).values())]
        if tasks:
            yield limit.format(', '.join(tasks))


def _rates(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Answers that could not be read, or were cut off."""
    for entry, is_bad in (('parsed', False), ('letter', False), ('truncated', True)):
        worst_of = []
        for row in rows:
            rates = row.get('details', {}).get(entry, {})
            bad = {m: rate if is_bad else 1 - rate for m, rate in rates.items()}
            worst = max(bad, key=lambda m: bad[m], default=None)
            if worst is not None and bad[worst] > 0.01:
                worst_of.append(f'{row["task"]} {bad[worst]:.1%} ({worst})')
        if worst_of:
            what = 'cut off at the token limit' if is_bad else f'without a readable {entry} answer'
            what = what.replace('parsed answer', 'answer')
            yield f'Answers {what}, worst method of each task: {"; ".join(worst_of)}.'


def _methods(part: Mapping[str, Any]) -> Iterator[str]:
    """What the pooled numbers say against the methods."""
    pooled = part['pooled_gap_recovered']
    selected = part['selected_method']
    learned = [m for m in pooled if m in part['learned_methods']]
    if selected is None:
        yield 'No method was fixed beforehand: every comparison here is after the fact.'
    difference = part['selected_minus_mean_pp']
    if difference and difference[1] <= 0:
        yield (
            f'{selected} is not shown to be better than mean: {difference[0]:+.2f} pp, interval '
            f'[{difference[1]:+.2f}, {difference[2]:+.2f}].'
        )
    unsure = [m for m in learned if pooled[m][1] is None or pooled[m][1] <= 0]
    if unsure:
        yield f'Not shown to recover anything (interval reaches 0): {", ".join(unsure)}.'
    for control in ('placebo', 'nearest', 'mean_delta', 'scaled_mean'):
        if control in pooled:
            beaten = [m for m in learned if pooled[m][0] <= pooled[control][0]]
            if beaten:
                yield f'No better than the control {control}: {", ".join(beaten)}.'
    best = max(learned, key=lambda m: pooled[m][0], default=None)
    if best and selected in pooled and pooled[best][0] > pooled[selected][0]:
        yield (
            f'{best} did better on the held-outs ({pooled[best][0]:.3f}) than {selected}, which '
            f'was fixed beforehand ({pooled[selected][0]:.3f}); it may not be quoted instead.'
        )
    if 'span_oracle' in pooled and pooled['span_oracle'][0] < 1:
        yield (
            f'The weighting of these anchors whose update is closest to the true one (span oracle) '
            f'recovers {pooled["span_oracle"][0]:.3f} of the gap. It is closest in weights: '
            'another weighting may answer better.'
        )


def _losses(part: Mapping[str, Any]) -> Iterator[str]:
    """Losses that are no numbers, and methods worse than no adapter."""
    undefined = [
        f'{row["task"]} {method} {count} of {row["n"]}'
        for row in part['rows']
        for method, count in row.get('nll_undefined', {}).items()
    ]
    if undefined:
        yield (
            'Losses that are no number, so that the method is left out of the loss of that task: '
            f'{", ".join(undefined)}.'
        )
    pooled = part['pooled_nll_gap_recovered']
    worse = [m for m, (_, _, high) in pooled.items() if high is not None and high < 0]
    if worse:
        yield f'Worse than no adapter by the loss of the reference answers: {", ".join(worse)}.'


def _statistics(part: Mapping[str, Any]) -> Iterator[str]:
    """What the intervals do not cover."""
    widths = [
        (ends[2] - ends[1]) / 2
        for row in part['rows']
        for method, others in row['difference_pp'].items()
        if method in part['learned_methods']
        for ends in [others.get('mean')]
        if ends
    ]
    if widths:
        yield (
            f'On a single task the half-width of a learned method minus mean is '
            f'{min(widths):.1f} to {max(widths):.1f} pp: smaller differences cannot be seen.'
        )
    if part['bootstrap']['kind'] == 'independent binomials':
        yield 'Answers per item are not known: intervals treat methods as independent.'
    for tasks in part['bootstrap']['linked_tasks']:
        yield f'{", ".join(tasks)} hold the same problems: they are not independent evidence.'
    yield 'One training seed per adapter: intervals cover the choice of items, not retraining.'
    tests = sum(len(others) for row in part['rows'] for others in row.get('mcnemar', {}).values())
    if tests:
        yield f'{tests} McNemar p-values are printed uncorrected.'


def _missing(results: Results) -> Iterator[str]:
    """Parts of Round 4 that this run did not do."""
    for number, what in ((2, 'anchor scaling'), (3, 'cross-domain transfer')):
        if not results[f'experiment{number}']['run']:
            yield f'Experiment {number} ({what}) was not run.'
    if not results['topk']:
        yield 'No top-k method was run.'
