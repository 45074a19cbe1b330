"""The seed's counts as the content of a results.json."""

from lorajax.evaluation import stats
from tests.seed_table import COUNTS


def seed_results() -> dict:
    """Returns results of the seed's experiment 1 and of nothing else."""
    return {
        'source_model': 'X',
        'target_model': 'Y',
        'experiment1': stats.experiment1(COUNTS),
        'topk': {},
        'experiment2': {'run': False, 'cells': []},
        'experiment3': {'run': False, 'cells': [], 'best_pool': {}, 'selected': {}},
        'diagnostics': {},
    }
