"""One comparison with transformers and peft for tests, the benchmark and the mutations.

`expect` runs the torch side, `differences` runs a port and says how far each item is off.
"""

import jax
import jax.numpy as jnp
import numpy as np
import peft
import torch
import transformers

from lorajax.lora import TARGETS
from lorajax.lora.config import module_name
from lorajax.models.loss import target_nll
from lorajax.models.transformer import unembed

LENGTH = 24
RANK, ALPHA = 4, 8  # scale 2


def inputs(vocab_size):
    """Four rows padded on either side or not, and where the positions of long rows lie."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, vocab_size, (4, LENGTH)).astype(np.int32)
    mask = np.ones_like(tokens)
    mask[1, :7] = mask[2, :3] = mask[3, -9:] = 0
    far = np.sort(rng.choice(np.arange(20_000), (1, LENGTH), replace=False)).astype(np.int32)
    packed = np.repeat([1, 2, 3], [10, 6, 8])[None].astype(np.int32)
    return tokens, mask, far, packed


def random_adapter(config, seed=1):
    """An adapter of all projections whose update is about a fifth of the kernel's."""
    rng = np.random.default_rng(seed)
    depth = config.num_layers

    def normal(*shape, scale):
        return (scale * rng.standard_normal(shape, np.float32)).astype(np.float32)

    return {
        'layers': {
            name: {
                'a': normal(depth, fan_in, RANK, scale=fan_in**-0.5),
                'b': normal(depth, RANK, fan_out, scale=0.1),
            }
            for name, (fan_in, fan_out) in config.projections.items()
        }
    }


def expect(directory, config):
    """Returns what transformers and peft compute in float32, by item."""
    # sdpa cannot cap scores.
    kernel = 'eager' if config.attention_softcap else None
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation=kernel
    ).eval()
    tokens, mask, far, packed = inputs(config.vocab_size)
    wide, ones = torch.tensor(tokens).long(), torch.ones(1, LENGTH, dtype=torch.long)
    real = mask.astype(bool)
    result = {}
    with torch.no_grad():
        positions = torch.tensor(np.maximum(np.cumsum(mask, -1) - 1, 0))
        out = model(wide, attention_mask=torch.tensor(mask), position_ids=positions,
                    output_hidden_states=True)  # fmt: skip
        result['logits, padded left and right'] = out.logits.numpy()[real]
        for index, hidden in enumerate(out.hidden_states[1:-1], 1):
            result[f'hidden states, layer {index}'] = hidden.numpy()[real]
        result['hidden states, final'] = out.hidden_states[-1].numpy()[real]
        out = model(wide[:1], attention_mask=ones, position_ids=torch.tensor(far).long())
        result['logits, positions to 20000'] = out.logits.numpy()
        alone = [model(wide[:1, packed[0] == i]).logits.numpy() for i in (1, 2, 3)]
        result['logits, packed rows'] = np.concatenate(alone, axis=1)
    options = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS))
    model = peft.get_peft_model(model, options).eval()
    named = dict(model.named_parameters())
    adapter = random_adapter(config)
    parts = {}
    for name, entry in adapter['layers'].items():
        for layer in range(config.num_layers):
            path = f'base_model.model.{module_name(name, layer)}'
            for factor, part in (('a', 'lora_A'), ('b', 'lora_B')):
                parts[name, layer, factor] = named[f'{path}.{part}.default.weight']
                # peft multiplies b by alpha / rank; the tree carries it.
                value = entry[factor][layer].T / (1 if factor == 'a' else ALPHA / RANK)
                parts[name, layer, factor].data.copy_(torch.tensor(value))
    labels = np.where(real, tokens, -100).astype(np.int64)
    labels[:, : LENGTH // 2] = -100
    out = model(wide, attention_mask=torch.tensor(mask), position_ids=positions,
                labels=torch.tensor(labels))  # fmt: skip
    out.loss.backward()
    result['logits with adapter'] = out.logits.detach().numpy()[real]
    result['loss with adapter'] = out.loss.detach().numpy()
    for name in TARGETS:
        for factor in 'ab':
            stack = [parts[name, i, factor].grad.numpy().T for i in range(config.num_layers)]
            # d/d(scale * b) = (d/db) / scale
            scale = 1 if factor == 'a' else ALPHA / RANK
            result[f'gradient of {name} {factor}'] = np.stack(stack) / scale
    return result


NEAR, FAR, ADAPTER = 'near', 'far', 'adapter'


def compute(model, dtype=None, parts=(NEAR, FAR, ADAPTER)):
    """Returns what a port computes, by item, as `expect`; traced anew on every call.

    Args:
      model: the port.
      dtype: of the computation, if not the model's.
      parts: which items, since each part is compiled: `NEAR` padded and packed rows with their
        hidden states, `FAR` the logits at positions up to 20,000, `ADAPTER` what has an adapter,
        gradients (slow to compile) included.
    """
    tokens, mask, far, packed = inputs(model.config.vocab_size)
    real = mask.astype(bool)
    module = model.module if dtype is None else model.module.clone(dtype=dtype)

    def run(params, tokens, segments, positions=None, adapter=None):
        variables = {'params': params} | ({'lora': adapter} if adapter else {})
        (hidden, _), kept = module.apply(
            variables, tokens, segments, positions, mutable=['intermediates'],
            capture_intermediates=lambda m, f: type(m).__name__ == 'Block' and f == '__call__',
        )  # fmt: skip
        layers = kept['intermediates']['layers']['__call__'][0][0]
        return unembed(params, hidden, module.config.logit_softcap), hidden, layers

    run = jax.jit(run)
    result = {}
    if NEAR in parts:
        # The packed row rides with the padded ones: one program less to compile.
        out = run(
            model.params, np.concatenate([tokens, tokens[:1]]), np.concatenate([mask, packed])
        )  # fmt: skip
        logits, hidden, layers = (np.asarray(value) for value in out)
        result['logits, padded left and right'] = logits[:4][real]
        for index in range(1, model.config.num_layers):
            result[f'hidden states, layer {index}'] = layers[index - 1, :4][real]
        result['hidden states, final'] = hidden[:4][real]
        result['logits, packed rows'] = logits[4:]
    if FAR in parts:
        ones = np.ones_like(tokens[:1])
        result['logits, positions to 20000'] = run(model.params, tokens[:1], ones, far)[0]
    if ADAPTER in parts:
        adapter = jax.tree.map(jnp.asarray, random_adapter(model.config))
        logits = run(model.params, tokens, mask, adapter=adapter)[0]
        result['logits with adapter'] = np.asarray(logits)[real]
        result.update(_backward(module, model.params, adapter, tokens, mask))
    return {name: np.asarray(value, np.float32) for name, value in result.items()}


def _backward(module, params, adapter, tokens, mask):
    """Returns the items of the backward pass."""
    index = np.tile(np.arange(LENGTH // 2, LENGTH, dtype=np.int32), (4, 1))
    # A target counts where it is real and, as in torch's shifted labels, has a real predecessor.
    counts = np.take_along_axis(mask, index, axis=1).astype(np.float32)

    def loss(adapter, params):  # params captured would be folded into the program: minutes
        nll = target_nll(module, params, adapter, tokens, mask, index, counts)
        return nll.sum() / counts.sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(adapter, params)
    layers = grads['layers']
    parts = {f'gradient of {name} {f}': layers[name][f] for name in TARGETS for f in 'ab'}
    return {'loss with adapter': value, **parts}


def differences(actual, expected):
    """Returns the largest absolute difference over the largest absolute value, by item."""
    assert actual.keys() == expected.keys()
    return {
        name: float(np.abs(actual[name] - value).max() / np.abs(value).max())
        for name, value in expected.items()
    }


def worst(differences):
    """Returns the differences with all hidden states, and all gradients, as one item each."""
    result = {}
    for name, value in differences.items():
        group = name if name.startswith('l') else ' '.join(name.split()[:1]) + 's, all'
        result[group] = max(value, result.get(group, 0.0))
    return result
