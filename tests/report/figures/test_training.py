"""The figure of training curves."""

from lorajax.report.figures.training import training_figure


def _row(step, loss, side='source', tasks=('a', 'b'), **more):
    return {'event': 'train', 'side': side, 'step': step, 'tasks': list(tasks), 'loss': loss} | more


def test_losses_of_some_steps_may_be_missing():
    rows = [
        _row(1, [1.0, None]),
        _row(2, [0.5, 0.7]),
        _row(2, [0.4, 0.6]),
        _row(1, 0.3, 'target', ['a']),
        {'event': 'memory', 'bytes': 1},
    ]
    source, target = training_figure(rows).axes
    first, second, median = (line.get_ydata().tolist() for line in source.lines)
    assert first == [1.0, 0.4] and second == [0.6]  # the later row of a step counts
    assert median == [1.0, 0.5]
    assert target.lines[0].get_ydata().tolist() == [0.3]


def test_speed_has_a_panel_of_its_own():
    rows = [_row(step, [1.0, 2.0], tokens_per_second=100.0 * step) for step in (1, 2)]
    _, speed = training_figure(rows).axes
    assert speed.lines[0].get_ydata().tolist() == [100.0, 200.0]


def test_small_losses_need_a_logarithmic_axis():
    steep = training_figure([_row(1, [1.0, 1.0]), _row(2, [1e-4, 0.0])])
    flat = training_figure([_row(1, [1.0, 1.0]), _row(2, [0.5, 0.4])])
    assert steep.axes[0].get_yscale() == 'log' and flat.axes[0].get_yscale() == 'linear'


def test_nothing_to_draw():
    assert training_figure([{'event': 'memory', 'bytes': 1}]) is None
