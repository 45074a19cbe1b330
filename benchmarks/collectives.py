"""Collectives of a compiled program, from its text: kind, dtype, how often, bytes sent."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 'f64': 8}


class Collective(NamedTuple):
    """One kind of collective in a program.

    Attributes:
      kind: of `KINDS`.
      dtype: of what is sent.
      count: how often it runs.
      sent: bytes that a device sends in all of them.
    """

    kind: str
    dtype: str
    count: int
    sent: float


def collectives(hlo: str) -> list[Collective]:
    """Returns the collectives of a compiled program's text, kinds and dtypes together.

    What stands in the body of a loop counts as often as the loop runs, once where the program does
    not know how often that is.
    """
    bodies = _computations(hlo)
    times = _times(bodies)
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for name, lines in bodies.items():
        for line in lines:
            match = re.search(r'= (.+?) (' + '|'.join(KINDS) + r')(-start)?\(', line)
            if not match or not times[name]:
                continue
            result, kind = match[1], match[2]
            shapes = re.findall(r'\b(' + '|'.join(_BYTES) + r')\[([\d,]*)\]', result)
            if match[3] and kind != 'all-reduce':  # of an asynchronous one: operands, then results
                shapes = shapes[len(shapes) // 2 :]
            size = sum(
                _BYTES[d] * math.prod(map(int, filter(None, s.split(',')))) for d, s in shapes
            )
            count, total = found.get((kind, shapes[0][0]), (0, 0.0))
            sent = _sent(kind, size, _group_size(line))
            found[kind, shapes[0][0]] = count + times[name], total + times[name] * sent
    return [Collective(*key, *value) for key, value in sorted(found.items())]


def _computations(hlo: str) -> dict[str, list[str]]:
    """Returns the lines of every computation by name; that of the program is called ENTRY."""
    bodies: dict[str, list[str]] = {}
    name = ''
    for line in hlo.splitlines():
        head = re.match(r'(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$', line)
        if head:
            name = 'ENTRY' if head[1] else head[2]
            bodies[name] = []
        elif name and line.startswith(' '):
            bodies[name].append(line)
    return bodies


def _times(bodies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Returns how often each computation runs in one run of the program."""
    callers: dict[str, list[tuple[str, int]]] = {name: [] for name in bodies}
    for name, lines in bodies.items():
        for line in lines:
            trips = _trips(line, bodies)
            for called in re.findall(r'(?:body|condition|calls|to_apply)=%?([\w.-]+)', line):
                if called in callers:
                    callers[called].append((name, trips))
    times: dict[str, int] = {'ENTRY': 1}

    def of(name: str) -> int:
        if name not in times:
            times[name] = sum(of(caller) * count for caller, count in callers[name])
        return times[name]

    return {name: of(name) for name in bodies}


def _trips(line: str, bodies: Mapping[str, Sequence[str]]) -> int:
    """Returns how often the loop of a line runs; 1 if it is none, or the program does not know.

    XLA writes it down for CPUs and GPUs. For TPUs it stands in the loop's condition alone, which
    compares the counter with a constant.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line)
    if known:
        return int(known[1])
    condition = re.search(r' while\(.*condition=%?([\w.-]+)', line)
    if not condition:
        return 1
    lines = bodies[condition[1]]
    root = next((text for text in lines if text.lstrip().startswith('ROOT')), '')
    compared = re.search(r'pred\[\]\S* compare\(.*%([\w.-]+)\), direction=LT', root)
    if not compared:
        return 1
    constant = re.compile(r'%' + re.escape(compared[1]) + r' = s32\[\]\S* constant\((\d+)\)')
    limit = next(filter(None, map(constant.search, lines)), None)
    return int(limit[1]) if limit else 1


def _group_size(line: str) -> int:
    """Returns how many devices take part in one collective."""
    groups = line.split('replica_groups=')[-1]
    named = re.match(r'mesh\[(.*?)\] ?\{(.*?)\}', groups)
    if named:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    iota = re.match(r'\[(\d+),(\d+)\]', groups)
    if iota:
        return int(iota[2])
    listed = re.match(r'\{\{([\d,]*)\}', groups)
    return len(listed[1].split(',')) if listed else 1


def _sent(kind: str, size: int, devices: int) -> float:
    """Returns the bytes that a device of a ring sends for a result of `size` bytes."""
    share = (devices - 1) / devices
    return {
        'all-gather': share * size,
        'all-reduce': 2 * share * size,
        'reduce-scatter': (devices - 1) * size,
        'all-to-all': share * size,
        'collective-permute': size,
    }[kind]
