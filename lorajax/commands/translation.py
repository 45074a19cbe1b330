"""What `translate` does with one adapter: read it, judge what became of it, write it, say so."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from lorajax import io, mapping
from lorajax.distillation import ladder
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment.adapters import SIDES, save_predicted
from lorajax.experiment.workdir import Workdir
from lorajax.io import fields
from lorajax.lora import load_peft
from lorajax.mapping import advice, model_card, quality, verdict
from lorajax.mapping.advice import Advice, Known
from lorajax.types import Adapter, JsonDict

_INTERVAL = fields.Kind(
    'a number with its interval',
    lambda value: (
        isinstance(value, list)
        and len(value) == 3
        and all(map(fields.NUMBER.fits, [x for x in value if x is not None] or [None]))
        and value[0] is not None
        and (value[1] is None) == (value[2] is None)
    ),
)


class Mapped(NamedTuple):
    """A mapping on disk.

    Attributes:
      path: where it lies.
      fitted: what was read.
      bases: names of the 'source' and 'target' models, and their fingerprints if it has them.
    """

    path: str
    fitted: mapping.TransferMap
    bases: Mapping[str, str]


class Result(NamedTuple):
    """What became of an adapter.

    Attributes:
      path: of the source adapter.
      report: of the mapping's prediction.
      reached: how far it came.
      expected: of the map alone, by what is known of its anchors.
      judged: what to do with it.
    """

    path: pathlib.Path
    report: JsonDict
    reached: ladder.Reached
    expected: quality.Expected
    judged: verdict.Verdict

    def to_json(self) -> JsonDict:
        """Returns the row of a summary."""
        return {
            'rung': self.reached.rung,
            'verdict': self.judged.word,
            'reason': self.judged.reason,
            'expected_share_of_map': self.expected._asdict(),
            'kept_out_losses': dict(self.reached.losses),
            'notes': list(self.reached.notes),
        }


def read_bases(path: pathlib.Path) -> dict[str, str]:
    """Reads which base models a mapping is between.

    Raises:
      ArgumentError: if there is none.
      InputError: if it holds something else.
    """
    if not path.is_file():
        raise ArgumentError(
            'mapping', path.parent, 'is no fitted mapping, expected RUN/mappings/METHOD or what '
            'map wrote',
        )  # fmt: skip
    bases = io.read_json(path)
    if not isinstance(bases, dict) or not all(isinstance(bases.get(s), str) for s in SIDES):
        raise InputError(
            f'{path}: is {io.shorten(repr(bases))}, expected the names of source and target'
        )
    return bases


def advise(mapped: Mapped, known: Known) -> Advice:
    """Returns the best way for what a user gave and what a mapping knows of itself.

    Args:
      mapped: the mapping; its pairs, how they do when left out, and whether its bases are one.
      known: of what was given beside it.
    """
    shares = list(quality.shares(mapped.fitted.diagnostics.get(quality.FUNCTIONAL) or {}).values())
    source, target = (mapped.bases.get(f'{side}_weights') for side in SIDES)
    if known.weight_cosine is None and source and source == target:
        known = known._replace(weight_cosine=1.0)
    left_out = float(np.median(shares)) if shares else None
    return advice.advise(known._replace(anchors=len(mapped.fitted.tasks), left_out=left_out))


def read_adapter(path: pathlib.Path, mapped: Mapped, assumed: str) -> Adapter:
    """Reads an adapter that must belong to the mapping's source model.

    Args:
      path: of the adapter.
      mapped: the mapping.
      assumed: the user's word on the adapter's base: the mapping's name of it, or the adapter's
        own name of what the mapping calls otherwise; empty for none.

    Raises:
      InputError: if it names another base; says whether its shapes are another's, too.
    """
    config, adapter = load_peft(path)
    depth = max(shape.layers for shape in mapped.fitted.query_shapes.values())
    if max(len(entry['a']) for entry in adapter['layers'].values()) < depth and config.layers:
        adapter = load_peft(path, depth)[1]  # one of some layers, of which the last is not among
    source, base = mapped.bases['source'], config.base_model
    if not base and not assumed:
        logging.warning('%s: names no base model, taken as an adapter of %s', path, source)
    elif source not in (base, assumed) and not (base and assumed == base):
        differing = _shapes_differ(mapped, adapter)
        raise InputError(
            f'{path}: belongs to {base or assumed}, the mapping translates adapters of {source}; '
            + (differing or 'its shapes fit: assume_source says that the two are the same')
        )
    return adapter


def _shapes_differ(mapped: Mapped, adapter: Adapter) -> str:
    """Returns how an adapter's shapes differ from the anchors', '' if they do not."""
    try:
        mapping.Queries({'adapter': adapter}).check(mapped.fitted.query_shapes, any_rank=True)
    except InputError as error:
        return f'its shapes are of another base, too: {error}'
    return ''


def predict(
    mapped: Mapped, paths: Mapping[str, pathlib.Path], queries: Mapping[str, Adapter]
) -> dict[str, mapping.Prediction]:
    """Translates adapters, the anchors read once for all.

    Raises:
      InputError: naming the adapter and its base, if it cannot be translated.
    """
    try:
        return mapped.fitted.explain_many(queries)
    except InputError as error:
        if len(queries) == 1:
            (path,) = (paths[name] for name in queries)
            base = load_peft(path)[0].base_model or 'a base that it does not name'
            raise InputError(f'{path} (of {base}): {error}') from None
        for name, query in queries.items():
            predict(mapped, paths, {name: query})
        raise


def judge(
    mapped: Mapped,
    path: pathlib.Path,
    query: Adapter,
    prediction: mapping.Prediction,
    reached: ladder.Reached,
    force: bool,
) -> Result:
    """Returns what to do with a result.

    Args:
      mapped: the mapping.
      path: of the source adapter, for messages.
      query: the source adapter.
      prediction: of the mapping.
      reached: what it became.
      force: whether a result that should not be written is judged, too.

    Raises:
      InputError: for such a result otherwise: it or the source adapter is zero everywhere, it is
        worse than no adapter on answers that were kept out, or it is predicted to be.
    """
    diagnostics, report = mapped.fitted.diagnostics, prediction.report
    expected = quality.expect(diagnostics, report)
    if reached.kept_out:
        checked = verdict.Checked(
            reached.losses[ladder.NONE], reached.losses[reached.rung], reached.floor,
            reached.kept_out, reached.is_backed,
        )  # fmt: skip
        judged = verdict.of_check(checked)
        refusal = verdict.harm_seen(checked)
    else:
        judged = verdict.of_map(diagnostics, report, reached.rung)
        refusal = verdict.harm_predicted(diagnostics, report) if reached.rung == 'map' else ''
    if is_zero(reached.adapter):
        refusal = 'its translation changes nothing, all of it is zero'
    if is_zero(query):
        refusal = 'it changes nothing, all of it is zero: there is nothing to translate'
    if refusal and not force:
        raise InputError(f'{path}: {refusal}; force writes it anyway')
    return Result(path, report, reached, expected, judged)


def is_zero(adapter: Adapter) -> bool:
    """Returns whether an adapter changes nothing."""
    return not any(
        np.any(entry['a']) and np.any(entry['b']) for entry in adapter['layers'].values()
    )


def measured(mapped: Mapped) -> str:
    """Returns what the run that a mapping is of measured of it; '' if it is of none.

    Raises:
      InputError: if the run's results are damaged.
    """
    files = Workdir(pathlib.Path(mapped.path).resolve().parent.parent)
    method = mapped.fitted.method
    if files.mapping(method).resolve() != pathlib.Path(mapped.path).resolve():
        return ''
    if not files.results.is_file():
        return ''
    results = fields.require_object(files.results, io.read_json(files.results))
    part = fields.require_object(files.results, results.get('experiment1'))
    pooled = fields.require_object(files.results, part.get('pooled_gap_recovered'))
    if method not in pooled:
        return ''
    value, low, high = fields.require(files.results, pooled, method, _INTERVAL)
    interval = '' if low is None else f', 95 % interval {low:.2f} to {high:.2f}'
    return f'{value:.2f} of what retraining gains{interval}, pooled over its held-outs'


def write(directory: pathlib.Path, mapped: Mapped, result: Result, dtype: str) -> None:
    """Writes an adapter of the target with its model card."""
    save_predicted(directory, result.reached.adapter, mapped.bases['target'], dtype)
    card = model_card.model_card(
        bases=mapped.bases,
        adapter=str(result.path),
        mapping=mapped.path,
        diagnostics=mapped.fitted.diagnostics,
        report=result.report,
        rank=max(np.shape(e['a'])[-1] for e in result.reached.adapter['layers'].values()),
        **_described(mapped, result),
    )
    io.write_text(directory / 'README.md', card)


def _described(mapped: Mapped, result: Result) -> dict[str, Any]:
    """Returns what the model card says of the rung, as arguments of `model_card`."""
    reached = result.reached
    facts = [
        ('expected of the map for this adapter', result.expected.words),
        ('rung reached', f'{reached.rung}: {verdict.SAW[reached.rung]}'),
    ]
    if found := measured(mapped):
        facts.append(('measured in the run of the mapping', found))
    if reached.learned:
        facts.append(('fitted to', f'{reached.learned} answers'))
    if reached.kept_out:
        losses = ', '.join(f'{name} {loss:.3f}' for name, loss in reached.losses.items())
        facts.append((f'nats per token of {reached.kept_out} answers kept out', losses))
    facts += [('note', note) for note in reached.notes]
    facts += [(f'the rung {rung} needs', needs) for rung, needs in verdict.NEEDS.items()]
    return {
        'made': verdict.SAW[reached.rung],
        'verdict': f'{result.judged.word}, {result.judged.reason}',
        'facts': facts,
    }


def warn(mapped: Mapped, result: Result) -> None:
    """Logs what speaks against a result, if anything does."""
    if caution := model_card.warning(mapped.fitted.diagnostics, result.report):
        logging.warning('%s: %s', result.path, caution)


def say(mapped: Mapped, result: Result) -> None:
    """Logs what came of an adapter, what to expect of it, and what a higher rung needs."""
    path, reached, diagnostics = result.path, result.reached, mapped.fitted.diagnostics
    logging.info('%s: rung reached: %s', path, reached.rung)
    for name, loss in reached.losses.items():
        logging.info('%s:   %-10s %.3f nats per token of answers kept out', path, name, loss)
    for note in reached.notes:
        logging.info('%s: %s', path, note)
    logging.info('%s: expected quality of the map: %s', path, model_card.expectation(diagnostics))
    logging.info('%s: expected of the map for this adapter: %s', path, result.expected.words)
    distance = result.report.get('distance_to_span')
    if distance is not None:
        logging.info('%s: share outside of what the anchors span: %.2f', path, distance)
    warn(mapped, result)
    for rung in ladder.RUNGS[ladder.RUNGS.index(reached.rung) + 1 :]:
        logging.info('%s: the rung %s needs %s', path, rung, verdict.NEEDS[rung])
    logging.info('%s: verdict: %s, %s', path, result.judged.word, result.judged.reason)
