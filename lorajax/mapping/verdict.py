"""What to do with a translated adapter: use it, check it first, or do not use it; and why.

Numbers go in, words come out: what leave-one-out says of the mapping, how like its anchors the
adapter is, and, where the target has seen answers of the source, how likely it makes others of
them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lorajax.mapping import model_card, quality

USE, CHECK, AVOID = 'use', 'check first', 'do not use'

# Rung -> what it takes.
NEEDS = {
    'map': 'pairs of adapters',
    'reweighted': 'pairs of adapters, both base models, prompts without answers',
    'distilled': 'pairs of adapters, both base models, prompts without answers, a training',
    'few-shot': 'pairs of adapters, the target model, labelled examples',
}
# Rung -> how an adapter on it was made, after 'made from an adapter, '.
SAW = {
    'map': 'from pairs of adapters alone',
    'reweighted': "with weights fitted to the source model's answers to prompts",
    'distilled': "by training on the source model's answers to prompts",
    'few-shot': 'with weights fitted to labelled examples',
}
# Shares of what an adapter can gain on kept-out answers; see `gain`.
_ENOUGH, _LITTLE = 0.9, 0.5
_FEW = 4  # pairs; fewer gave translations that are worse than no adapter in nine cases of ten
_UNSURE = 0.1  # of the bare target's loss: a teacher that leaves more is not sure itself


class Checked(NamedTuple):
    """What the target makes of answers that were kept out of every fit.

    Attributes:
      none: nats per token without an adapter.
      result: with the adapter.
      floor: under the model that gave the answers, None for labels.
      answers: how many.
      is_backed: whether pairs of adapters spoke for these answers, or they are labels.
    """

    none: float
    result: float
    floor: float | None
    answers: int
    is_backed: bool = True


class Verdict(NamedTuple):
    """Attributes: word: one of `USE`, `CHECK`, `AVOID`; reason: half a sentence."""

    word: str
    reason: str


def gain(checked: Checked) -> float:
    """Returns the share of the bare target's loss, above the floor, that the adapter removes."""
    room = checked.none - (checked.floor or 0.0)
    return (checked.none - checked.result) / room if room > 0 else 0.0


def of_map(diagnostics: Mapping[str, Any], report: Mapping[str, Any], rung: str = 'map') -> Verdict:
    """Judges a translation of which no answer was checked; the best is 'check first'.

    Args:
      diagnostics: of the fitted mapping.
      report: of the prediction.
      rung: that was reached, unchecked.
    """
    if rung != 'map':
        return Verdict(CHECK, 'too few answers to keep some out and look at them')
    harm = harm_predicted(diagnostics, report)
    expected = quality.expect(diagnostics, report)
    score = diagnostics.get('loo_r2')
    if harm:
        return Verdict(AVOID, harm)
    if score is not None and score <= 0:
        return Verdict(AVOID, 'the mapping predicts its own anchors no better than their mean')
    if expected.share < 0:
        return Verdict(AVOID, f'it is expected to have {expected.words}')
    caution = model_card.warning(diagnostics, report)
    if caution:
        return Verdict(CHECK, caution)
    return Verdict(CHECK, f'no model has seen the result; it is expected to have {expected.words}')


def harm_predicted(diagnostics: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Returns why a translation should not be written, '' if nothing speaks against it.

    A mapping that is the mean of its anchors, or is made of very few, does harm wherever it was
    measured. Beyond these cases left-out anchors must speak; toy worlds alone do not decide.
    """
    expected = quality.expect(diagnostics, report)
    if diagnostics.get('fallback'):
        return 'the mapping predicts its own anchors no better than their mean, and is that mean'
    count = len(diagnostics['anchors'])
    if expected.share < 0 and (expected.is_measured or count < _FEW):
        return (
            f'by {count} pairs of adapters its translation is predicted to be worse than no '
            f'adapter: {expected.words}'
        )
    return ''


def harm_seen(checked: Checked) -> str:
    """Returns why an adapter that was checked should not be written, '' if it gained anything."""
    if checked.result < checked.none:
        return ''
    return (
        f'its translation is worse than no adapter ({checked.result:.3f} against '
        f'{checked.none:.3f} nats per token of answers that were kept out)'
    )


def of_check(checked: Checked) -> Verdict:
    """Judges an adapter by answers that were kept out."""
    share = gain(checked)
    numbers = (
        f'it removes {share:.0%} of what an adapter can gain on {checked.answers} answers that '
        'were kept out'
    )
    if checked.result >= checked.none:
        return Verdict(AVOID, f'{checked.answers} answers are less likely with it than without it')
    if share < _LITTLE:
        return Verdict(AVOID, numbers)
    if share < _ENOUGH:
        return Verdict(CHECK, numbers)
    # Kept-out answers are of the kind of the others: they cannot tell that both are of a wrong one.
    if (checked.floor or 0.0) > _UNSURE * checked.none:
        return Verdict(CHECK, f'{numbers}, but the source model itself is unsure of them')
    if not checked.is_backed:
        return Verdict(CHECK, f'{numbers}, but no pair of adapters shows what they are worth')
    return Verdict(USE, numbers)
