"""Target adapters that learn what the source model answers with its adapters.

The source model with an adapter answers prompts that need not be of the adapter's task, and an
adapter of the target is trained on the answers it is surest of, from a translated adapter on.
Needs both base models and a short training, but no data of the task.

Source: the idea of Trans-LoRA (Wang et al. 2024, arXiv 2405.17258), there with synthetic prompts
and a trained discriminator; here any prompts, and the teacher's own certainty.
"""

import contextlib
import pathlib
from collections.abc import Callable, Mapping, Sequence

from lorajax import processes
from lorajax.distillation import pseudo_labels, teacher
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat
from lorajax.tasks.task import Example, Prompt
from lorajax.training import MetricWriter, TrainCheckpoints, TrainConfig, train_adapters
from lorajax.training.checkpoint import group_name
from lorajax.types import Adapter

Loader = Callable[[], tuple[Model, ChatFormat]]  # so that one base is in memory at a time


def distill(
    load_source: Loader,
    load_target: Loader,
    adapters: Mapping[str, Adapter],
    prompts: Sequence[str | Prompt],
    config: TrainConfig,
    *,
    start_from: Mapping[str, Adapter] | None = None,
    answer_batch_size: int,
    max_len: int,
    max_new_tokens: int,
    adapters_per_step: int = 0,
    label_files: Mapping[str, pathlib.Path] | None = None,
    state: pathlib.Path | None = None,
    metrics: MetricWriter | None = None,
) -> dict[str, Adapter]:
    """Trains a target adapter for each source adapter; the half of the answers is learned.

    A call that was killed goes on where it stopped if it is made again with the same arguments,
    `label_files` and `state` among them.

    Args:
      load_source: returns the teacher and its chat format; called if an answer is missing.
      load_target: returns the student and its chat format.
      adapters: of the source, by task; ranks may differ.
      prompts: user messages, the same for all tasks.
      config: the recipe of the target adapters.
      start_from: target adapters by task to go on from, of the config's rank; by default fresh
        ones.
      answer_batch_size: prompts answered together, with every adapter at once.
      max_len: tokens of a prompt, and of a prompt with its answer in training.
      max_new_tokens: longest answer.
      adapters_per_step: adapters trained together; 0 for all.
      label_files: where the pseudo-labels of each task are kept, read instead of made if they
        are there.
      state: directory of the states of trainings; the caller removes it when it has stored the
        adapters.
      metrics: where losses go.

    Returns:
      Target adapters by task, on the host, scale folded in.

    Raises:
      InputError: if the source model finishes no answer of a task, or a loss is not finite.
      ArgumentError: if no prompt is shorter than `max_len`.
    """
    files = label_files or {}
    there = processes.on_first(lambda: [task for task, path in files.items() if path.exists()])
    labels = {task: examples.read(files[task]) for task in there}
    unanswered = {task: adapter for task, adapter in adapters.items() if task not in labels}
    if unanswered:
        made = _make_labels(
            load_source, unanswered, prompts, answer_batch_size, max_len, max_new_tokens
        )

        def store() -> None:
            for task in made.keys() & files.keys():
                examples.write(files[task], made[task])

        processes.on_first(store)
        labels |= made
    model, chat = load_target()
    encoded = {task: examples.encode(chat, labels[task], max_len, task) for task in adapters}
    tasks = list(adapters)
    size = adapters_per_step or len(tasks)
    trained: dict[str, Adapter] = {}
    for group in (tasks[i : i + size] for i in range(0, len(tasks), size)):
        with contextlib.ExitStack() as stack:
            checkpoints = None
            if state:
                checkpoints = TrainCheckpoints(state / group_name(group))
                stack.callback(checkpoints.close)
            trained |= train_adapters(
                model,
                {task: encoded[task] for task in group},
                config,
                pad_id=chat.pad_id,
                label='distilled',
                start_from=start_from,
                checkpoints=checkpoints,
                metrics=metrics,
            )
    return trained


def _make_labels(
    load_source: Loader,
    adapters: Mapping[str, Adapter],
    prompts: Sequence[str | Prompt],
    batch_size: int,
    max_len: int,
    max_new_tokens: int,
) -> dict[str, list[Example]]:
    """Returns pseudo-labels by task: the better half of the answers."""
    model, chat = load_source()
    answers = teacher.answer(
        model, chat, adapters, prompts,
        batch_size=batch_size, max_len=max_len, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    count = -(-len(prompts) // 2)
    return {
        task: pseudo_labels.select(prompts, answered, count, task)
        for task, answered in answers.items()
    }
