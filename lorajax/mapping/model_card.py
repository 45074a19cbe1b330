"""What a translation says about itself: expected quality, warning, and its model card."""

from collections.abc import Mapping, Sequence
from typing import Any

import lorajax
from lorajax.mapping import scores
from lorajax.types import JsonDict

_FALLBACK = (
    'left-out anchors are predicted no better than by the mean of the others, '
    'so the mapping falls back to the mean'
)

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vllm/config/lora.py, MaxLoRARanks


def anchor_distances(diagnostics: Mapping[str, Any]) -> list[float]:
    """Returns each anchor's distance to the span of the others, [] if the method has none.

    A combination of methods keeps the diagnostics of each under `parts`; the first counts, as
    all compare the same updates.
    """
    own = diagnostics.get('anchor_span_distances')
    if own is not None:
        return list(own)
    parts = diagnostics.get('parts', {}).values()
    return next((anchor_distances(part) for part in parts if anchor_distances(part)), [])


def expectation(diagnostics: Mapping[str, Any]) -> str:
    """Returns one line on how well the mapping predicts its own anchors when they are left out."""
    score, cosine = diagnostics.get('loo_r2'), diagnostics.get('loo_cosine')
    if score is None:
        return 'not known: a mapping of one anchor cannot leave one out'
    validation = diagnostics.get('validation', scores.LEAVE_ONE_OUT)
    text = f'R2 against the mean of the anchors {score:.3f}, cosine {cosine:.3f} ({validation})'
    if diagnostics.get('fallback'):
        return f'{text}; {_FALLBACK}'
    return text if score > 0 else f'{text}; no better than the mean of the anchors'


def warning(diagnostics: Mapping[str, Any], report: Mapping[str, Any]) -> str | None:
    """Returns a warning if a translation cannot be trusted to do the adapter's task.

    Args:
      diagnostics: of the fitted mapping.
      report: of the prediction.

    Returns:
      A sentence if the mapping is the mean of its anchors, whatever the adapter, or if the
      adapter's distance to the anchors' span exceeds the largest distance of an anchor to the
      span of the others; else None. A task drawn like the A anchors exceeds that with
      probability 1 / (A + 1), by exchangeability.
    """
    if diagnostics.get('fallback'):
        return f'{_FALLBACK}: every adapter is translated to the same'
    distance, known = report.get('distance_to_span'), anchor_distances(diagnostics)
    if distance is None or not known or distance <= max(known):
        return None
    return (
        f'{distance:.2f} of the adapter lies outside of what the anchors span, more than of any '
        f'anchor left out ({min(known):.2f} to {max(known):.2f}): expect less than the anchors '
        'say'
    )


def model_card(
    *,
    bases: Mapping[str, str],
    adapter: str,
    mapping: str,
    diagnostics: Mapping[str, Any],
    report: JsonDict,
    made: str = 'from pairs of adapters alone',
    verdict: str = '',
    facts: Sequence[tuple[str, str]] = (),
    rank: int = 0,
) -> str:
    """Returns the README.md of a translated adapter: a Hugging Face model card.

    Args:
      bases: names of the 'source' and 'target' base models.
      adapter: where the source adapter was read.
      mapping: where the mapping was read.
      diagnostics: of the fitted mapping.
      report: of the prediction.
      made: how, after 'Made from an adapter of X for Y, '.
      verdict: a sentence on whether to use it; left out if empty.
      facts: more rows of the table, name and value.
      rank: of the adapter, for the lines that load it; 0 to leave them out.
    """
    caution = warning(diagnostics, report)
    rows = [
        ('source adapter', f'`{adapter}`'),
        ('source base model', f'`{bases["source"]}`'),
        ('mapping', f'`{mapping}`'),
        ('method', f'`{diagnostics["method"]}`'),
        ('expected quality of the map', expectation(diagnostics)),
    ]
    if report.get('distance_to_span') is not None:
        known = anchor_distances(diagnostics)
        among = f' (anchors left out: {min(known):.2f} to {max(known):.2f})' if known else ''
        rows.append(('outside the span', f'{report["distance_to_span"]:.2f} of its norm{among}'))
    if report.get('energy_lost') is not None:
        rows.append(('lost by truncation', f'{report["energy_lost"]:.4f} of the squared norm'))
    page = _page(bases, made, verdict, [caution] if caution else [], [*rows, *facts], rank)
    lines = [*page, '', '## Anchors', '', *_anchor_lines(diagnostics['anchors'], report)]
    return '\n'.join(lines) + '\n'


def distilled_card(
    bases: Mapping[str, str],
    adapter: str,
    facts: Sequence[tuple[str, str]],
    cautions: Sequence[str],
    rank: int,
) -> str:
    """Returns the README.md of an adapter that was trained on the source model's answers.

    Args:
      bases: names of the 'source' and 'target' base models.
      adapter: where the source adapter was read.
      facts: rows of the table, name and value.
      cautions: sentences on what speaks against it.
      rank: of the adapter.
    """
    verdict = 'check first, no answer was kept out of the training to try it on'
    made = 'by a training on what the source model answers with it'
    rows = [('source adapter', f'`{adapter}`'), ('source base model', f'`{bases["source"]}`')]
    return '\n'.join(_page(bases, made, verdict, cautions, [*rows, *facts], rank)) + '\n'


def _page(
    bases: Mapping[str, str],
    made: str,
    verdict: str,
    cautions: Sequence[str],
    rows: Sequence[tuple[str, str]],
    rank: int,
) -> list[str]:
    """Lines of a card up to what is said of anchors."""
    lines = [
        '---',
        f'base_model: {_quoted(bases["target"])}',
        'library_name: peft',
        'tags:',
        '- lora',
        '- lorajax',
        '- translated-adapter',
        '---',
        '',
        '# Translated LoRA adapter',
        '',
        f'Made from an adapter of `{bases["source"]}` for `{bases["target"]}`, {made}.',
        '',
    ]
    if verdict:
        lines += [f'**Verdict: {verdict}.**', '']
    for caution in cautions:
        lines += [f'> **Warning:** {caution}.', '']
    lines += ['| | |', '| --- | --- |', *(f'| {name} | {value} |' for name, value in rows)]
    lines.append(f'| made with | lorajax {lorajax.__version__} |')
    if rank:
        lines += ['', *_usage(bases['target'], rank)]
    return lines


def _usage(base: str, rank: int) -> list[str]:
    """Lines that check the adapter, and load it in peft and vLLM; `.` is its directory."""
    allowed = next((known for known in _VLLM_RANKS if known >= rank), rank)
    return [
        '## Check it, use it',
        '',
        'Ask it something that it should know, then the bare model, with the same command without',
        '`--adapter`:',
        '',
        '```',
        f"lorajax generate --model={base} --adapter=. --prompt='...'",
        '```',
        '',
        '```python',
        'from peft import PeftModel',
        'from transformers import AutoModelForCausalLM',
        '',
        f"model = AutoModelForCausalLM.from_pretrained('{base}')",
        "model = PeftModel.from_pretrained(model, '.')",
        '```',
        '',
        '```',
        f'vllm serve {base} --enable-lora --max-lora-rank {allowed} --lora-modules translated=.',
        '```',
    ]


def _anchor_lines(anchors: Sequence[str], report: Mapping[str, Any]) -> list[str]:
    """One line per anchor, with its mean weight where the method weighs anchors."""
    weights = report.get('weights', {})
    return [f'- {a}' + (f': weight {weights[a]:.3f}' if a in weights else '') for a in anchors]


def _quoted(text: str) -> str:
    """A YAML scalar that is read as text, whatever it holds."""
    return "'" + text.replace("'", "''") + "'"
