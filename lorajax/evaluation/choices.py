"""Multiple choice by likelihood: which choice does a model find likeliest?

Beside the letter that a model writes there are the three readings of lm-evaluation-harness, all
after the same prompt: the letter of largest log-likelihood, the choice's text of largest
log-likelihood (its `acc`), and the text of largest log-likelihood per character (its `acc_norm`,
which takes bytes; here characters). The end token is left out, as it is there.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Example

READINGS = ('likeliest_letter', 'likeliest_text', 'likeliest_text_per_character')

# Encoded continuations -> float[A, N] mean loss in nats per token.
MeanLoss = Callable[[Sequence[Encoded]], np.ndarray]


def continuations(chat: ChatFormat, examples: Sequence[Example]) -> list[Encoded]:
    """Returns every choice of every example as letter and as text, in that order.

    Args:
      chat: the model's tokenizer and template.
      examples: with 'labels' and 'choices' in `meta`.
    """
    encoded = []
    for example in examples:
        prompt = chat.encode_prompt(example.prompt)
        for answer in (*example.meta['labels'], *example.meta['choices']):
            ids = chat.encode_answer(example.prompt, answer)
            encoded.append(Encoded(prompt, ids[:-1] if len(ids) > 1 else ids))
    return encoded


def read(
    chat: ChatFormat, examples: Sequence[Example], mean_loss: MeanLoss
) -> list[list[dict[str, bool]]]:
    """Returns for each adapter and example which readings name the right choice.

    Args:
      chat: the model's tokenizer and template.
      examples: with 'labels' and 'choices' in `meta`; `reference` is the right label.
      mean_loss: scores continuations for A adapters.

    Returns:
      A lists of one {reading: right} per example; ties go to the first choice.
    """
    encoded = continuations(chat, examples)
    lengths = np.array([len(e.answer) for e in encoded])
    sums = -mean_loss(encoded) * lengths
    results: list[list[dict[str, bool]]] = [[] for _ in sums]
    start = 0
    for example in examples:
        labels = list(example.meta['labels'])
        characters = np.array([max(len(text), 1) for text in example.meta['choices']])
        right, count = labels.index(example.reference), len(labels)
        for adapter, row in enumerate(sums):
            letters = row[start : start + count]
            texts = row[start + count : start + 2 * count]
            scores = letters, texts, texts / characters
            results[adapter].append(
                {
                    name: bool(np.argmax(score) == right)
                    for name, score in zip(READINGS, scores, strict=True)
                }
            )
        start += 2 * count
    return results
