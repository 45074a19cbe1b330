"""`doctor`: what this machine has, and what a run or a training needs of it."""

import dataclasses
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lorajax import sharding, toy
from lorajax.commands.command import Command
from lorajax.experiment import (
    base_arrays,
    checks,
    forecast,
    memory,
    methods,
    models,
    programs,
    targets,
)
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option, options_of
from lorajax.mapping import advice
from lorajax.models import ModelConfig, kernels, known


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `doctor`."""

    model: str = option(
        '', 'a model to train one adapter on, instead of the two of a run; named as source_model'
    )
    compile_for: str = option(
        '', 'accelerators to compile the programs for; their compiler must be here, they need not: '
        f'{", ".join(targets.names())}, and how many, such as h100-8 or v5e-8'
    )  # fmt: skip


def doctor(flags: Flags, experiment: Experiment) -> None:
    """Says what this machine has, whether a flagfile will fit, and how long it takes.

    Memory is estimated from shapes: nothing is loaded, and shapes of well-known models are built
    in, so no network is needed. Where both models are here, their weights are compared, and the
    last line says which way to take between them. Where something does not fit, the flags are named
    with which it does. Time is estimated from a matrix product that is timed here. With a model,
    what is measured is `train` on it, with the recipe of that command. With `compile_for` the
    programs are compiled, which takes minutes, and XLA's own account of their memory is shown.

    Raises:
      InputError: if a model is not to be had, a name is unknown, or the mesh does not divide
        what it must.
      ArgumentError: if there are no such accelerators, or their compiler is not installed.
    """
    print('\n'.join(memory.describe_machine()), flush=True)  # before anything can fail
    target = _there(flags.compile_for) if flags.compile_for else None
    if target:  # whose devices an entry of -1 means, and not those that are here
        mesh = sharding.make_mesh(experiment.mesh, target.devices)
        sizes = tuple(mesh.shape[axis] for axis in ('data', 'fsdp', 'tensor', 'adapters'))
        experiment = dataclasses.replace(experiment, mesh=sizes)
    if flags.model:
        works = [_Work('model', flags.model, adapters=1, trained=1, variants=2, items=0)]
    else:
        checks.check_names(experiment)
        works = _works(experiment)
    configs = [_config(work.model) for work in works]
    for config in configs:
        checks.check_mesh(experiment, config, is_here=False)
    print(memory.describe_mesh(experiment.mesh))
    device = target or _here(experiment.dtype)
    for work, config in zip(works, configs, strict=True):
        print('\n'.join(_describe(work, config, experiment, device)), flush=True)
        if target:
            _compile(work, config, experiment, target)
    if not flags.model:
        print(_together(works, configs, experiment, device), end='')
        print('\n'.join(_advice(experiment)))


class _Device(NamedTuple):
    """One of the devices that are asked about, here or elsewhere.

    Attributes:
      memory: its bytes, if they are known.
      rate: operations a second in products of large matrices.
      source: where the rate comes from, in words.
      devices: it and those like it.
    """

    memory: int | None
    rate: float
    source: str
    devices: list[jax.Device]


def _here(dtype: str) -> _Device:
    """Returns a device of this machine."""
    rate = forecast.matrix_rate(dtype)
    return _Device(
        memory.device_bytes(), rate, 'as just measured on one device here', jax.devices()
    )


def _there(name: str) -> _Device:
    """Returns a device of a target, whose compiler is here."""
    found, share = targets.look_up(name), forecast.PEAK_SHARE
    source = f'{share:.0%} of the peak, which is a guess'
    return _Device(found.memory, share * found.peak, source, targets.devices(name))


class _Work(NamedTuple):
    """What is done with one model.

    Attributes:
      side: 'source', 'target' or 'model'.
      model: its name.
      adapters: trained together.
      trained: adapters in all.
      variants: adapters evaluated together, the base among them.
      items: that each of them answers.
    """

    side: str
    model: str
    adapters: int
    trained: int
    variants: int
    items: int


def _works(experiment: Experiment) -> list[_Work]:
    """Returns what a run does with its two models."""
    count, variants = len(experiment.tasks), len(methods.predicted(experiment)) + 2
    again = len(experiment.heldouts) if experiment.diagnostics else 0
    items = len(experiment.heldouts) * experiment.eval_per_task
    asked = items if experiment.diagnostics else 0  # of the source, bare and with its adapters
    return [
        _Work('source', experiment.source_model, count, count, 2, asked),
        _Work('target', experiment.target_model, count, count + again, variants, items),
    ]


def _compile(work: _Work, config: ModelConfig, experiment: Experiment, device: _Device) -> None:
    """Compiles the programs of one model for a target, and says their size."""
    mesh = sharding.make_mesh(experiment.mesh, device.devices)
    base = programs.make_base(experiment, config, mesh, experiment.attention)
    compiled = programs.compile_all(
        base,
        experiment.adapters_per_step or work.adapters,
        experiment.adapters_per_step or work.variants,
        device.memory,
    )
    label = f'{work.side} {work.model}: compiled for {device.devices[0].device_kind}'
    for program in compiled:
        size = program.device_bytes
        says = 'does not fit' if size is None else f'{size / 2**30:.2f} GiB'
        print(f'{label}, {program.what}: {says}', flush=True)


def _advice(experiment: Experiment) -> list[str]:
    """Returns which way to take, by the base weights where both models are here."""
    names = (experiment.source_model, experiment.target_model)
    lines, cosine = [], None
    if all(any(pathlib.Path(toy.MODELS.get(n, n)).glob('*.safetensors')) for n in names):
        cosine = base_arrays.weight_cosine(*names)
        lines.append(advice.likeness(cosine))
    best = advice.advise(advice.Known(anchors=len(experiment.anchors), weight_cosine=cosine))
    return [*lines, f'advice: {best}']


def _config(name: str) -> ModelConfig:
    """Returns the shapes of a model, built in where it is well known and no directory."""
    is_here = name in toy.MODELS or pathlib.Path(name).exists()
    return (None if is_here else known.find(name)) or models.read_config(name)


def _sizes(
    work: _Work, config: ModelConfig, experiment: Experiment, device: _Device
) -> tuple[dict[str, int], dict[str, int]]:
    """Returns what training and evaluation need per device, bytes by part."""
    first = device.devices[0]
    attention = kernels.choose(first, config, jnp.dtype(experiment.dtype), experiment.attention)
    trained, decoded = (
        experiment.adapters_per_step or count for count in (work.adapters, work.variants)
    )
    training = memory.training_bytes(experiment, config, trained, attention)
    decoding = memory.decoding_bytes(experiment, config, decoded)
    apart = memory.layers_apart(experiment, config, device.devices, device.memory)
    return training, decoding | ({'layers apart': apart} if apart else {})


def _is_fit(work: _Work, config: ModelConfig, experiment: Experiment, device: _Device) -> bool:
    """Returns whether training and evaluation fit, as far as is known."""
    sizes = _sizes(work, config, experiment, device)
    return all(memory.fits(parts, device.memory) is not False for parts in sizes)


def _together(
    works: list[_Work], configs: list[ModelConfig], experiment: Experiment, device: _Device
) -> str:
    """Returns the line on what makes all models of a run fit; '' if they do, or nothing does."""
    advice = forecast.advise(
        experiment,
        max(work.adapters for work in works),
        max(work.variants for work in works),
        lambda changed: all(
            _is_fit(work, config, changed, device)
            for work, config in zip(works, configs, strict=True)
        ),
    )
    return f'both models fit with {advice}\n' if advice else ''


def _describe(
    work: _Work, config: ModelConfig, experiment: Experiment, device: _Device
) -> list[str]:
    """Returns the lines on one model."""
    label = f'{work.side} {work.model}'
    lines = memory.describe_model(label, config, *_sizes(work, config, experiment, device))

    advice = forecast.advise(
        experiment, work.adapters, work.variants,
        lambda changed: _is_fit(work, config, changed, device),
    )  # fmt: skip
    if advice:
        lines.append(f'{label}: does not fit; it does with {advice}')
    elif advice is None:
        lines.append(
            f'{label}: does not fit; take --param_dtype=bfloat16 --dtype=bfloat16, a lower '
            '--batch_size or --max_len, or shard over more devices with --mesh'
        )
    elif device.memory is not None:
        lines.append(f'{label}: fits')
    tokens = experiment.max_len / 2
    rows = work.trained * experiment.train_per_task * experiment.num_epochs
    count = memory.num_devices(experiment.mesh)
    training = forecast.training_seconds(
        config, rows * tokens, count * device.rate, experiment.remat
    )
    times = [f'training {forecast.show(training)}']
    if work.items:
        answers = work.variants * work.items * tokens
        evaluation = forecast.evaluation_seconds(config, answers, count * device.rate)
        times.append(f'evaluation {forecast.show(evaluation)}')
    lines.append(
        f'{label}: estimated time: {", ".join(times)}, for rows of {tokens:.0f} tokens, with '
        f'{count} x {device.rate / 1e9:,.0f} GFLOP/s, {device.source}'
    )
    return lines


COMMAND = Command('doctor', doctor, Flags, reads=tuple(options_of(Experiment)), has_recipe='model')
