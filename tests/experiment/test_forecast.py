"""Settings that need less, the nearest first, and seconds from operations."""

from lorajax.experiment import forecast
from lorajax.experiment.config import Experiment
from lorajax.models import presets

RUN = Experiment(remat='dots', eval_batch_size=8)


def test_settings_need_ever_less_and_begin_with_the_given_ones():
    tried = list(forecast.changes(RUN, adapters=6, variants=3))
    assert tried[0] == RUN and tried[-1].remat == 'full'
    assert {e.remat for e in tried} == {'dots', 'full'}
    assert {e.adapters_per_step for e in tried} == {0, 3, 2, 1}
    assert {e.eval_batch_size for e in tried} == {8, 4, 2, 1}
    two = Experiment(adapters_per_step=2)
    assert {e.adapters_per_step for e in forecast.changes(two, 6, 3)} == {2, 1}


def test_the_first_that_fit_are_named():
    assert forecast.advise(RUN, 6, 3, lambda e: True) == ''
    assert forecast.advise(RUN, 6, 3, lambda e: False) is None
    assert forecast.advise(RUN, 6, 3, lambda e: e.eval_batch_size < 5) == '--eval_batch_size=4'
    found = forecast.advise(RUN, 6, 3, lambda e: e.remat == 'full' and e.adapters_per_step == 2)
    assert found == '--remat=full --adapters_per_step=2'


def test_time_is_operations_over_a_measured_share_of_the_rate():
    shape = presets.QWEN2_5_3B
    plain = forecast.training_seconds(shape, 1e6, 1e12, 'none')
    assert plain == 4 * shape.num_matmul_params * 1e6 / (forecast.STEP_SHARE * 1e12)
    assert forecast.training_seconds(shape, 1e6, 1e12, 'full') == 1.5 * plain
    assert 0 < forecast.evaluation_seconds(shape, 1e6, 1e12) < plain
    assert forecast.matrix_rate('float32', repeats=1) > 1e8
    shown = [forecast.show(seconds) for seconds in (0.2, 60, 700, 9000, 400000)]
    assert shown == ['1 seconds', '60 seconds', '12 minutes', '2 hours', '5 days']
