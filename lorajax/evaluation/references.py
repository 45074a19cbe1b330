"""References that a run evaluates beside its methods, to say what bounds a translation."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from lorajax.evaluation.stats import experiment1

# Name of the outcomes -> what it says.
REFERENCES = {
    'placebo': 'the ridge weights given to wrong anchors: what is reached without knowing the task',
    'span_oracle': "the weighted sum of anchors whose update is nearest to the oracle's",
    'span_oracle_tensor': "the weighted sum of anchors nearest to the oracle's update, weights "
    'differing between tensors',
    'repeated': 'the oracle trained once more with its data in another order',
}

Columns = Mapping[str, Mapping[str, Sequence[float]]]  # {task: {method: one number per item}}


def summary(
    answers: Columns,
    losses: Columns,
    clusters: Mapping[str, Sequence[Hashable]],
    cosines: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Returns the pooled gap recovered of each reference, and cosines with the oracle.

    Args:
      answers, losses: right or wrong and nats per answer token, of base, oracle and references.
      clusters: problem of each item.
      cosines: {task: {method: cosine of its update with the oracle's}}.

    Returns:
      {'run': bool, 'methods': {name: {'accuracy': {task: share}, 'gap_recovered': [value, low,
      high] or None, 'nll_gap_recovered': likewise}}, 'cosines': {task: {method: value}}}.
    """
    names = [name for name in REFERENCES if any(name in methods for methods in answers.values())]
    if not names:
        return {'run': False, 'methods': {}, 'cosines': {}}
    counts = {
        task: {'n': len(methods['base'])} | {m: int(sum(v)) for m, v in methods.items()}
        for task, methods in answers.items()
    }
    experiment = experiment1(
        counts, outcomes=answers, nll=losses, clusters=clusters, domains=dict.fromkeys(answers, '')
    )
    return {
        'run': True,
        'methods': {
            name: {
                'accuracy': {row['task']: row['accuracy'].get(name) for row in experiment['rows']},
                'gap_recovered': experiment['pooled_gap_recovered'].get(name),
                'nll_gap_recovered': experiment['pooled_nll_gap_recovered'].get(name),
            }
            for name in names
        },
        'cosines': {task: dict(values) for task, values in cosines.items()},
    }
