"""`distill`: a target adapter trained on what the source model answers with its adapter."""

import dataclasses
import math
import pathlib

from absl import logging

from lorajax import io, mapping, processes
from lorajax.commands import joining, shared
from lorajax.commands.command import Command
from lorajax.distillation import distill as run_distillation
from lorajax.errors import ArgumentError
from lorajax.experiment import models
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.lora import LoraConfig, save_peft
from lorajax.mapping import model_card
from lorajax.tasks import sft_rows

_MANY_PROMPTS, _MANY_STEPS = 100, 30  # what was measured to work (docs/results.md) had more
_KIND = (
    'whether the prompts are of the kind that the adapter is for was not looked at; with others a '
    'training on answers does worse than a mapping'
)


@dataclasses.dataclass(frozen=True)
class Flags(joining.Flags):
    """Flags of `distill`."""

    source_model: str = shared.model_flag('the model of the adapter')
    target_model: str = shared.model_flag('the model that gets an adapter')
    adapter: str = option('', 'the source adapter, in PEFT format', required=True)
    prompts: str = option('', 'JSON lines with a prompt each; answers are not read', required=True)
    mapping: str = option(
        '', 'a fitted mapping; the training goes on from what it makes of the adapter'
    )
    output: str = shared.output_flag('the target adapter')
    adapter_dtype: str = shared.adapter_dtype_flag()


def distill(flags: Flags, experiment: Experiment) -> None:
    """Trains a target adapter on what the source model answers with its adapter.

    It needs both models and prompts, but no answers to them; the prompts may be of other tasks.
    The half is learned of whose answers the source model is surest, of equal ones half of each.

    Raises:
      InputError: on bad prompts, or a source model that finishes no answer.
      ArgumentError: if the mapping predicts another rank; if the output exists.
    """
    output = pathlib.Path(processes.on_first(lambda: str(shared.new_directory(flags.output))))
    prompts = sft_rows.read_prompts(pathlib.Path(flags.prompts))
    shape = models.read_config(flags.source_model)
    adapter = shared.load_adapter(flags.adapter, shape, flags.source_model)
    config = dataclasses.replace(experiment.train_config, targets=tuple(adapter['layers']))
    start = None
    if flags.mapping:
        start = processes.from_first(mapping.load(flags.mapping).predict(adapter))
        ranks = {entry['a'].shape[-1] for entry in start['layers'].values()}
        if ranks != {config.rank}:
            raise ArgumentError(
                'lora_rank', config.rank, f'the mapping predicts rank {max(ranks)}; give that'
            )
        config = dataclasses.replace(config, targets=tuple(start['layers']))
    trained = run_distillation(
        lambda: models.load(flags.source_model, experiment, 'source'),
        lambda: models.load(flags.target_model, experiment, 'target'),
        {flags.adapter: adapter},
        prompts,
        config,
        start_from={flags.adapter: start} if start else None,
        answer_batch_size=experiment.eval_batch_size,
        max_len=experiment.max_len,
        max_new_tokens=shared.decode_limit(experiment),
    )
    written = LoraConfig(
        rank=config.rank,
        alpha=config.alpha,
        targets=config.targets,
        base_model=flags.target_model,
    )
    steps = math.ceil(math.ceil(len(prompts) / 2) / config.batch_size) * config.num_epochs
    cautions = _cautions(len(prompts), steps)
    card = model_card.distilled_card(
        {'source': flags.source_model, 'target': flags.target_model},
        flags.adapter,
        [
            ('prompts', f'{len(prompts)}, of whose answers the surer half was learned'),
            ('begun from', f'the mapping `{flags.mapping}`' if flags.mapping else 'no adapter'),
            ('training', f'{config.num_epochs:g} epochs of batches of {config.batch_size}'),
        ],
        cautions,
        config.rank,
    )

    def write() -> None:
        with io.atomic_directory(output) as partial:
            save_peft(partial, written, trained[flags.adapter], dtype=flags.adapter_dtype)
            io.write_text(partial / 'README.md', card)

    processes.on_first(write)
    for caution in cautions:
        logging.warning('%s: %s', output, caution)
    logging.info('adapter of the answers to %d prompts: %s', len(prompts), output)


def _cautions(prompts: int, steps: float) -> list[str]:
    """Returns what speaks against a result, by how much it learned."""
    found = []
    if prompts < _MANY_PROMPTS:
        found.append(
            f'{prompts} prompts are few, some hundred are wanted; translate with prompts and '
            'distill keeps some answers out and looks whether the training helped'
        )
    if steps < _MANY_STEPS:
        found.append(f'{steps:g} steps of training are few, more epochs may help')
    return [*found, _KIND]


COMMAND = Command(
    'distill', distill, Flags,
    reads=('end_tokens', 'lora_rank', 'lora_alpha', 'separate_init', 'seed', 'num_epochs',
           'batch_size', 'learning_rate', 'schedule', 'warmup_ratio', 'weight_decay',
           'max_grad_norm', 'eval_batch_size', 'lengths', 'remat', 'attention', 'mesh',
           'precision'),
    has_recipe=True,
)  # fmt: skip
