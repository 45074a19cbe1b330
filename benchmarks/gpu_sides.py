"""What `benchmarks.gpu` measures of one side, in a process of its own.

`python -m benchmarks.gpu_sides --side=ours --directory=DIR ...` prints one line of JSON: rates by
name, as lists, and what they were measured on.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.timing import seconds


@dataclasses.dataclass(frozen=True)
class Size:
    """What is computed.

    Attributes:
      model: name of `tests.models.shapes`.
      overrides: of its config.json.
      tokens: of a training example.
      prompt, new: tokens of decoding.
      rows: decoded with each of the adapters.
      adapters: in one step or batch.
      matrix: width of the product whose rate is measured.
    """

    model: str
    overrides: Mapping[str, Any]
    tokens: int
    prompt: int
    new: int
    rows: int
    adapters: int
    matrix: int


SIZES = {
    '3B': Size('Qwen2.5-3B', {}, 512, 128, 128, 32, 8, 8192),
    'small': Size(
        'Qwen2.5-0.5B',
        dict(vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, intermediate_size=128, head_dim=16),
        32, 8, 8, 4, 2, 256,
    ),
}  # fmt: skip


def repeated(run: Callable[[], Any], work: float, count: int) -> list[float]:
    """Returns `count` rates, after a call that compiles."""
    run()
    return [work / seconds(run) for _ in range(count)]


def examples(size: Size, vocabulary: int, adapters: int, batch: int, steps: int) -> dict:
    """Returns random examples of adapters, every token but the first a target."""
    from benchmarks.steps import drawn

    rng = np.random.default_rng(0)
    return {
        f't{adapter}': [drawn(rng, 1, size.tokens - 1, vocabulary) for _ in range(batch * steps)]
        for adapter in range(adapters)
    }


def recipe(batch: int) -> Any:
    """Returns Round 4's recipe."""
    from lorajax import lora
    from lorajax.training import TrainConfig

    return TrainConfig(num_epochs=1, batch_size=batch, rank=16, alpha=32, targets=lora.TARGETS)


def ours(size: Size, directory: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measures lorajax on the first device."""
    import jax

    from benchmarks import timing
    from benchmarks.steps import Ours
    from lorajax import lora, models, sharding

    device, count = jax.devices()[0], given.repetitions
    dtype = 'float32' if device.platform == 'cpu' else 'bfloat16'
    found: dict[str, Any] = {
        'device': device.device_kind, 'platform': device.platform, 'dtype': dtype,
        'matrix': [timing.matrix_rate(size.matrix, dtype)],
    }  # fmt: skip
    mesh = sharding.make_mesh((1, 1, 1), [device])
    load = functools.partial(
        models.load_model, directory, dtype, dtype, mesh, given.remat, attention=given.attention
    )

    def loaded() -> models.Model:
        model = load()
        jax.block_until_ready(model.params)
        return model

    model = loaded()
    found['attention'] = model.module.attention
    found['parameters'] = model.config.num_params
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    del model
    found['loading'] = [num_bytes / seconds(loaded) / 1e9 for _ in range(count)]
    model = loaded()
    vocabulary = model.config.vocab_size
    for name, adapters, batch in (('step', 1, 8), ('one', 1, 4), ('many', size.adapters, 4)):
        tasks = examples(size, vocabulary, adapters, batch, count + 1)
        steps = Ours(model, tasks, recipe(batch))
        found[f'{name} compiling'] = steps.warm_up()
        turns = [functools.partial(steps.run, step) for step in range(1, count + 1)]
        found[name] = [adapters * batch * size.tokens / seconds(turn) for turn in turns]
        del steps, turns
    stacked = lora.stack(
        [
            timing.random_adapter(model.config.projections, model.config.num_layers, 16, seed, 0.01)
            for seed in range(size.adapters)
        ]
    )
    stacked = jax.device_put(stacked, sharding.sharding(mesh))
    rows = size.adapters * size.rows
    tokens = np.random.default_rng(1).integers(3, vocabulary, (rows, size.prompt)).astype(np.int32)

    def decode(adapter: Any, tokens: np.ndarray, new: int) -> Any:
        output = model.generate(tokens, adapter=adapter, max_new_tokens=new)
        return jax.block_until_ready(output)

    # Mixed rows: every adapter has other prompts.
    mixed = tokens.reshape(size.adapters, size.rows, -1)
    for name, adapter, prompts in (('base', None, tokens), ('mixed', stacked, mixed)):
        for kind, new in (('decoding', size.new), ('reading', 1)):
            run = functools.partial(decode, adapter, prompts, new)
            work = rows * (size.new if new > 1 else size.prompt)
            found[f'{kind} {name}'] = repeated(run, work, count)
    found['bytes'] = (device.memory_stats() or {}).get('peak_bytes_in_use')
    return found


def theirs(size: Size, directory: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measures peft and transformers on the first device."""
    import torch
    import transformers

    from benchmarks.steps import Peft

    device = given.peer_device
    dtype, count = ('float32' if device == 'cpu' else 'bfloat16'), given.repetitions

    def settle() -> None:
        if device == 'cuda':
            torch.cuda.synchronize()

    def loaded() -> Any:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=getattr(torch, dtype)
        )
        model = model.to(device)
        for value in model.parameters():  # a mapped file is read when it is touched
            value.data.sum()
        settle()
        return model

    base = loaded()
    num_bytes = sum(value.nbytes for value in base.parameters())
    vocabulary = base.config.vocab_size
    del base
    found: dict[str, Any] = {
        'loading': [num_bytes / seconds(loaded) / 1e9 for _ in range(count)],
        'device': torch.cuda.get_device_name() if device == 'cuda' else device,
    }
    for name, batch in (('step', 8), ('one', 4)):
        side = Peft(directory, recipe(batch), device, dtype)
        rows = examples(size, vocabulary, 1, batch, 1)['t0']
        found[name] = repeated(lambda s=side, r=rows: s.run(r), batch * size.tokens, count)
    model = side.model.eval()
    rng = np.random.default_rng(1)

    def decode(rows: int) -> None:
        tokens = torch.tensor(rng.integers(3, vocabulary, (rows, size.prompt)), device=device)
        with torch.no_grad():
            model.generate(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=size.new,
                min_new_tokens=size.new, do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        settle()

    found['decoding mixed'] = repeated(lambda: decode(size.rows), size.rows * size.new, count)
    rows = size.rows * size.adapters
    with model.disable_adapter():
        found['decoding base'] = repeated(lambda: decode(rows), rows * size.new, count)
    return found


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that both sides and their parent process have."""
    parser.add_argument('--size', choices=SIZES, default='3B')
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--remat', default='dots', choices=['none', 'dots', 'full'])
    parser.add_argument('--attention', default='auto', choices=['auto', 'xla', 'cudnn', 'splash'])
    parser.add_argument('--peer_device', default='', choices=['', 'cuda', 'cpu', 'none'])


def main() -> None:
    """Prints what one side measured."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    parser.add_argument('--side', choices=['ours', 'theirs'], required=True)
    parser.add_argument('--directory', required=True, help='of the checkpoint')
    given = parser.parse_args()
    side = {'ours': ours, 'theirs': theirs}[given.side]
    print(json.dumps(side(SIZES[given.size], given.directory, given)))


if __name__ == '__main__':
    main()
