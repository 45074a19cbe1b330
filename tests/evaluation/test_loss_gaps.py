"""Gap recovered by loss, on losses whose gaps are known."""

import numpy as np
import pytest

from lorajax.evaluation.loss_gaps import loss_gaps

LEVELS = {'base': 2.0, 'x': 1.75, 'y': 2.5, 'oracle': 1.0}


def _losses(seed, n=100):
    item = np.random.default_rng(seed).random(n)
    return {method: level + item for method, level in LEVELS.items()}


def test_shares_of_the_fall_and_their_pool():
    result = loss_gaps({'a': _losses(0), 'b': {'base': 1.0, 'x': 0.8, 'oracle': 0.5}}, {})
    assert result.rows['a']['nll_gap_recovered'] == pytest.approx({'x': 0.25, 'y': -0.5})
    assert result.rows['b']['nll_gap_recovered'] == {'x': pytest.approx(0.4)}
    assert result.rows['a']['nll']['oracle'] == pytest.approx(_losses(0)['oracle'].mean())
    value, low, high = result.pooled['x']
    assert value == pytest.approx(0.45 / 1.5)
    # Every item falls by the same amount, so resampling moves nothing but the last digits.
    assert low == pytest.approx(value, abs=1e-12) and high == pytest.approx(value, abs=1e-12)
    assert result.pooled['y'][0] == pytest.approx(-0.5)
    assert set(result.pooled) == {'x', 'y'}


def test_noise_widens_the_interval_and_clusters_widen_it_more():
    generator = np.random.default_rng(1)
    once = {m: level + generator.normal(size=60) for m, level in LEVELS.items()}
    repeated = {m: np.repeat(v, 4) for m, v in once.items()}
    names = np.repeat(np.arange(60), 4).tolist()
    _, low, high = loss_gaps({'a': repeated}, {}).pooled['x']
    _, wide_low, wide_high = loss_gaps({'a': repeated}, {'a': names}).pooled['x']
    # Four copies of an item carry the information of one: the width doubles.
    assert (wide_high - wide_low) / (high - low) == pytest.approx(2, rel=0.25)


def test_a_task_without_a_fall_is_not_pooled():
    result = loss_gaps({'a': {'base': 1.0, 'x': 0.5, 'oracle': 1.5}, 'b': {'x': 1.0}, 'c': {}}, {})
    assert result.rows['a']['nll_gap_recovered'] == {'x': None}
    assert result.rows['b']['nll_gap_recovered'] == {'x': None}
    assert 'c' not in result.rows and result.pooled == {}
