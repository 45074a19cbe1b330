"""Round 4 in hours, predicted from measured rates and from counts of its tokens."""

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.gpu_sides import Size


@dataclasses.dataclass(frozen=True)
class Work:
    """How much of Round 4 there is, in tokens.

    Counted on the rows of 19 of the 22 tasks with `launch/round4.flags`: at most 1500 rows a task,
    275 characters a row; four characters count as a token and a chat template as 25 tokens. The
    three tasks of MATH are taken to have 500 rows each.

    Attributes:
      trained: tokens of three epochs of 22 tasks on both models, and of the held-outs once more.
      answers: that are decoded in experiments 1 to 3.
      read: tokens of their prompts.
      said: new tokens if every answer to a task of code is as long as the longest, 512, and every
        other has 8. So it is an upper bound.
    """

    trained: float = 2 * 15_550 * 3 * 94 + 6_290 * 3 * 94
    answers: float = 15_000
    read: float = 15_000 * 94
    said: float = 5_000 * 512 + 10_000 * 8


ROUND4 = Work()


def hours(size: Size, mine: Mapping[str, Any], work: Work = ROUND4) -> float:
    """Predicts the hours of Round 4 without its mappings: trainings, answers and two loads.

    A decode step of 256 rows is taken to last as long however many of the rows are at work, and
    half of the lanes to be idle.
    """
    median = statistics.median
    rows = size.adapters * size.rows
    reading = 1 / median(mine['reading mixed'])  # seconds a token
    whole = rows * size.new / median(mine['decoding mixed'])
    step = (whole - rows * size.prompt * reading) / size.new
    taken = work.trained / median(mine['many']) + work.read * reading
    taken += 2 * work.said / rows * step + 2 * 6.2 / median(mine['loading'])
    return taken / 3600
