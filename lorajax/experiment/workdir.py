"""The name of every file of a run."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Where each file of a run lies below its root directory."""

    root: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """Every resolved flag, versions, and hashes of models and data."""
        return self.root / 'config.json'

    @property
    def metrics(self) -> pathlib.Path:
        """Loss, tokens per second and the like over time, appended line by line."""
        return self.root / 'metrics.jsonl'

    @property
    def results(self) -> pathlib.Path:
        """Aggregates of all outcomes."""
        return self.root / 'results.json'

    @property
    def report(self) -> pathlib.Path:
        """Directory of tables and figures."""
        return self.root / 'report'

    @property
    def overlap(self) -> pathlib.Path:
        """Overlap between training and evaluation sets."""
        return self.root / 'data' / 'overlap.json'

    def model(self, side: str) -> pathlib.Path:
        """Base model that the run made itself; `side` is 'source' or 'target'."""
        return self.root / 'models' / side

    def adapter(self, side: str, task: str) -> pathlib.Path:
        """Trained adapter in PEFT format."""
        return self.root / 'adapters' / side / task

    def checkpoints(self, side: str, group: str) -> pathlib.Path:
        """Unfinished training of one group of adapters."""
        return self.root / 'checkpoints' / side / group

    def mapping(self, method: str) -> pathlib.Path:
        """Fitted mapping with its diagnostics."""
        return self.root / 'mappings' / method

    @property
    def selection(self) -> pathlib.Path:
        """Which method leave-one-out on the anchors prefers, fixed before any evaluation."""
        return self.root / 'mappings' / 'selection.json'

    @property
    def cosines(self) -> pathlib.Path:
        """Cosines of predicted with trained adapters, a diagnostic that looks at held-outs."""
        return self.root / 'mappings' / 'cosines.json'

    def predicted(self, method: str, task: str) -> pathlib.Path:
        """Predicted target adapter in PEFT format."""
        return self.root / 'predicted' / method / task

    def train_data(self, task: str) -> pathlib.Path:
        """Training examples as they were drawn."""
        return self.root / 'data' / 'train' / f'{task}.jsonl'

    def eval_data(self, task: str) -> pathlib.Path:
        """Evaluation examples as they were drawn."""
        return self.root / 'data' / 'eval' / f'{task}.jsonl'

    def answered(self, task: str) -> pathlib.Path:
        """Prompts with the answers that the source model gives to them with a task's adapter."""
        return self.root / 'data' / 'answered' / f'{task}.jsonl'

    def outcomes(self, task: str) -> pathlib.Path:
        """One row per item and method."""
        return self.root / 'outcomes' / f'{task}.jsonl'

    def study_outcomes(self, experiment: str, task: str) -> pathlib.Path:
        """Rows of 'experiment2' or 'experiment3', with the labels of their cells."""
        return self.root / 'outcomes' / experiment / f'{task}.jsonl'
