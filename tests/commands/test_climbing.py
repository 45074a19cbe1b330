"""What is given decides how far it is climbed; models are loaded where they are needed alone."""

import numpy as np
import pytest

from lorajax import mapping
from lorajax.commands import climbing
from lorajax.commands.climbing import Given
from lorajax.distillation import ladder, self_prompts
from lorajax.errors import InputError
from lorajax.experiment.config import Experiment
from tests.commands import toy_adapters

EXPERIMENT = Experiment(max_new_tokens=8)
NOTHING = Given('toy-source', 'toy-target', (), 0, (), '', False)


@pytest.fixture(scope='module')
def fitted():
    return mapping.fit('mean_delta', *[
        {f't{seed}': toy_adapters.draw(side, seed) for seed in range(2)}
        for side in ('source', 'target')
    ])  # fmt: skip


def climb(given, fitted, names=('one',)):
    """Climbs; returns what was reached and which models were loaded."""
    loaded = []

    def load(name, experiment, side):
        assert side in name
        loaded.append(name)
        return name, None

    queries = {name: toy_adapters.draw('source', 3) for name in names}
    start = {name: toy_adapters.draw('target', 4) for name in names}
    return climbing.climb(given, EXPERIMENT, load, fitted, queries, start), loaded


def test_with_nothing_given_the_map_stays_and_no_model_is_loaded(fitted):
    reached, loaded = climb(NOTHING, fitted)
    assert reached['one'].rung == ladder.MAP and not loaded


def test_shapes_of_other_models_are_refused_before_one_is_loaded(fitted):
    with pytest.raises(InputError, match=r'toy-target: .*, the mapping.s adapters of the source'):
        climb(NOTHING._replace(source_model='toy-target', prompts=['p']), fitted)


def test_every_adapter_climbs_with_prompts_of_its_own(fitted, monkeypatch):
    monkeypatch.setattr(self_prompts, 'sample', lambda *_, **__: ['p', 'q'])
    kept = iter([['p'], []])
    monkeypatch.setattr(self_prompts, 'select', lambda *_, **__: dict.fromkeys(next(kept)))
    asked = []

    def climbed(source, target, anchors, queries, start, prompts, limits, **_):
        asked.append((list(queries), list(prompts)))
        return {name: ladder.Reached(adapter, 'reweighted') for name, adapter in start.items()}

    monkeypatch.setattr(ladder, 'climb', climbed)
    reached, _ = climb(NOTHING._replace(sampled=4), fitted, ('one', 'two'))
    assert asked == [(['one'], ['p'])]
    assert [one.rung for one in reached.values()] == ['reweighted', 'map']
    assert 'the adapter stands out on 0 that were kept' in reached['two'].notes[0]
    assert np.any(reached['two'].adapter['layers']['q_proj']['b'])
