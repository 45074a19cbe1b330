"""The name of every file of a run."""

import dataclasses
import pathlib

BASES = 'bases.json'  # beside a mapping: the names of its two base models


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
    def all_item_metrics(self) -> pathlib.Path:
        """Directory of the same of trainings that processes divide among themselves."""
        return self.root / 'metrics'

    def item_metrics(self, pool: str, group: str) -> pathlib.Path:
        """What `metrics` holds of one group; no two processes append to one file."""
        return self.all_item_metrics / f'{pool}-{group}.jsonl'

    @property
    def results(self) -> pathlib.Path:
        """Aggregates of all outcomes."""
        return self.root / 'results.json'

    @property
    def report(self) -> pathlib.Path:
        """Directory of tables and figures."""
        return self.root / 'report'

    @property
    def report_text(self) -> pathlib.Path:
        """The report itself; written last, so where it is the directory is complete."""
        return self.report / 'ROUND4_REPORT.md'

    @property
    def data(self) -> pathlib.Path:
        """Directory of the rows that the run trains on and is evaluated on."""
        return self.root / 'data'

    @property
    def overlap(self) -> pathlib.Path:
        """Overlap between training and evaluation sets."""
        return self.data / 'overlap.json'

    def model(self, side: str) -> pathlib.Path:
        """Base model that the run made itself; `side` is 'source' or 'target'."""
        return self.root / 'models' / side

    @property
    def adapters(self) -> pathlib.Path:
        """Directory of all trained adapters."""
        return self.root / 'adapters'

    def adapter(self, side: str, task: str) -> pathlib.Path:
        """Trained adapter in PEFT format."""
        return self.adapters / side / task

    @property
    def lock(self) -> pathlib.Path:
        """Held by the process that works here."""
        return self.root / '.lock'

    def diagnostics(self, method: str) -> pathlib.Path:
        """What a mapping says about itself, with times and memory of its fit."""
        return self.mapping(method) / 'diagnostics.json'

    def bases(self, method: str) -> pathlib.Path:
        """Names the two base models; written last, so it marks a mapping as done."""
        return self.mapping(method) / BASES

    @property
    def all_checkpoints(self) -> pathlib.Path:
        """Directory of all unfinished trainings."""
        return self.root / 'checkpoints'

    def pool_checkpoints(self, pool: str) -> pathlib.Path:
        """Unfinished trainings of one pool of adapters."""
        return self.all_checkpoints / pool

    def checkpoints(self, pool: str, group: str) -> pathlib.Path:
        """Unfinished training of one group of adapters."""
        return self.pool_checkpoints(pool) / group

    def training_lock(self, pool: str, group: str) -> pathlib.Path:
        """Held by the process that trains a group of adapters."""
        return self.pool_checkpoints(pool) / f'{group}.lock'

    def mapping(self, method: str) -> pathlib.Path:
        """Fitted mapping with its diagnostics."""
        return self.mappings / method

    @property
    def mappings(self) -> pathlib.Path:
        """Directory of all fitted mappings."""
        return self.root / 'mappings'

    @property
    def selection(self) -> pathlib.Path:
        """Which method leave-one-out on the anchors prefers, fixed before any evaluation."""
        return self.mappings / 'selection.json'

    @property
    def cosines(self) -> pathlib.Path:
        """Cosines of predicted with trained adapters, a diagnostic that looks at held-outs."""
        return self.mappings / 'cosines.json'

    @property
    def all_predicted(self) -> pathlib.Path:
        """Directory of all predicted adapters, by method."""
        return self.root / 'predicted'

    def predicted(self, method: str, task: str) -> pathlib.Path:
        """Predicted target adapter in PEFT format."""
        return self.all_predicted / method / task

    def train_data(self, task: str) -> pathlib.Path:
        """Training examples as they were drawn."""
        return self.data / 'train' / f'{task}.jsonl'

    def eval_data(self, task: str) -> pathlib.Path:
        """Evaluation examples as they were drawn."""
        return self.data / 'eval' / f'{task}.jsonl'

    @property
    def all_answered(self) -> pathlib.Path:
        """Directory of all that the source model answered."""
        return self.data / 'answered'

    def answered(self, task: str) -> pathlib.Path:
        """Prompts with the answers that the source model gives to them with a task's adapter."""
        return self.all_answered / f'{task}.jsonl'

    @property
    def all_outcomes(self) -> pathlib.Path:
        """Directory of every outcome."""
        return self.root / 'outcomes'

    @property
    def cells(self) -> pathlib.Path:
        """Outcomes of experiments 2 and 3 while they are being made."""
        return self.all_outcomes / 'cells'

    def outcomes(self, task: str) -> pathlib.Path:
        """One row per item and method."""
        return self.all_outcomes / f'{task}.jsonl'

    def source_outcomes(self, task: str) -> pathlib.Path:
        """One row per item of the source model, bare ('base') and with its adapter ('oracle')."""
        return self.all_outcomes / 'source' / f'{task}.jsonl'

    def study(self, experiment: str) -> pathlib.Path:
        """Directory of the outcomes of 'experiment2' or 'experiment3'."""
        return self.all_outcomes / experiment

    def study_outcomes(self, experiment: str, task: str) -> pathlib.Path:
        """Rows of 'experiment2' or 'experiment3', with the labels of their cells."""
        return self.study(experiment) / f'{task}.jsonl'
