"""The toy world: 24 functions on strings of symbols, small enough for two CPU cores.

A sequence reads

    math ? ? md mb me mb = me mc mf mc <end>

domain tag, order tag, shift tag, four symbols, separator, answer. The answer is the input,
kept or reversed, each symbol shifted by k modulo 10. Pretraining shows the tags but replaces
each order and shift tag by `?` with probability 0.3; a task is one function with both tags
unknown, so the base model cannot know what is asked and an adapter has to select the skill.
"""

import dataclasses
import itertools

import numpy as np

SYMBOLS_PER_DOMAIN = 10
LENGTH = 4  # symbols of an input
# Words are letters only: the tokenizers of both families keep " letters" in one piece, while
# they take digits apart.
DOMAINS = {'math': 'm', 'code': 'c', 'science': 's'}
LETTERS = 'abcdefghij'
NUMBERS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
ORDERS = ('keep', 'reverse')
UNKNOWN, SEPARATOR, END, PAD = '?', '=', '<end>', '<pad>'


@dataclasses.dataclass(frozen=True)
class Function:
    """One skill.

    Attributes:
      domain: a key of `DOMAINS`; it fixes the symbols.
      order: 'keep' or 'reverse'.
      shift: added to every symbol, modulo 10.
    """

    domain: str
    order: str
    shift: int

    @property
    def task(self) -> str:
        """Name of the task."""
        return f'toy_{self.domain}_{self.order}_{self.shift}'

    def apply(self, symbols: np.ndarray) -> np.ndarray:
        """Returns int[..., 4] outputs for int[..., 4] inputs in 0..9."""
        ordered = symbols[..., ::-1] if self.order == 'reverse' else symbols
        return (ordered + self.shift) % SYMBOLS_PER_DOMAIN

    def prompt(self, symbols: np.ndarray, knows_order: bool, knows_shift: bool) -> str:
        """Returns the text before the separator for one int[4] input."""
        tags = [
            self.domain,
            self.order if knows_order else UNKNOWN,
            NUMBERS[self.shift] if knows_shift else UNKNOWN,
        ]
        return ' '.join(tags + self.words(symbols))

    def words(self, symbols: np.ndarray) -> list[str]:
        """Returns the words of int[n] symbols."""
        return [DOMAINS[self.domain] + LETTERS[symbol] for symbol in symbols]


@dataclasses.dataclass(frozen=True)
class World:
    """Which functions exist, and which are anchors and held-outs.

    Attributes:
      shifts: the four shifts.
      split_seed: decides the held-outs (two per domain) and the two functions left unused.
    """

    shifts: tuple[int, ...] = (1, 3, 5, 7)
    split_seed: int = 0

    @property
    def functions(self) -> tuple[Function, ...]:
        """All functions, in a fixed order."""
        return tuple(Function(*parts) for parts in itertools.product(DOMAINS, ORDERS, self.shifts))

    def split(self) -> tuple[tuple[Function, ...], tuple[Function, ...]]:
        """Returns 16 anchors and 6 held-outs, two of each domain.

        Both orders occur among a domain's held-outs, so that neither is left without anchors.
        """
        rng = np.random.default_rng(self.split_seed)
        heldouts, rest = [], []
        for domain in DOMAINS:
            for order in ORDERS:
                group = [f for f in self.functions if (f.domain, f.order) == (domain, order)]
                chosen = int(rng.integers(len(group)))
                heldouts.append(group.pop(chosen))
                rest += group
        unused = set(rng.choice(len(rest), len(rest) - 16, replace=False).tolist())
        anchors = tuple(f for i, f in enumerate(rest) if i not in unused)
        return anchors, tuple(heldouts)


DEFAULT = World()


def words() -> list[str]:
    """Returns every word that a sequence may hold, special tokens aside."""
    symbols = [prefix + letter for prefix in DOMAINS.values() for letter in LETTERS]
    return [SEPARATOR, UNKNOWN, *DOMAINS, *ORDERS, *NUMBERS, *symbols]


def inputs() -> np.ndarray:
    """Returns int64[10000, 4], every input there is, in lexicographic order."""
    grid = np.indices((SYMBOLS_PER_DOMAIN,) * LENGTH)
    return grid.reshape(LENGTH, -1).T
