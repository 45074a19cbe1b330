"""Seeded damages to files: some know JSON, some the header of safetensors, some nothing."""

import copy
import json
from typing import Any

import numpy as np

# Values that stand where others are meant; RAW ones are no value of Python's json.
RAW = 'raw text: '
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**299, 1.5, -0.0, 1e308, 1e-320, '', 'false',
    'x', '\ud800', '../../etc/passwd', 'a' * 5000, 'a\nb\x00', [], [[]], [None], [0], ['x'], {},
    {'a': 1}, {'': {}}, RAW + 'NaN', RAW + '-Infinity', RAW + '1e999', RAW + '9' * 5000,
    RAW + '[' * 3000 + ']' * 3000, RAW + '{"a":' * 3000 + '1' + '}' * 3000, RAW + '{"a":1,"a":2}',
)  # fmt: skip


def damage(data: bytes, name: str, rng: np.random.Generator) -> bytes:
    """Returns a file's content with one damage, or a few."""
    for _ in range(int(rng.integers(1, 3))):
        knows = rng.random() < 0.7
        if knows and name.endswith(('.json', '.jsonl')):
            data = _in_lines(data, rng) if name.endswith('.jsonl') else _in_json(data, rng)
        elif knows and name.endswith('.safetensors') and len(data) > 8:
            data = _in_header(data, rng)
        else:
            data = _in_bytes(data, rng)
    return data


def _in_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips a bit, cuts, repeats, removes or inserts a stretch."""
    start, stop = sorted(int(n) for n in rng.integers(0, len(data) + 1, 2))
    stop = min(stop, start + 200)
    inserted = (b'\xff', b'\x00' * 9, b'{', b']', b'"', b'\\ud800', b'\n\n', '\u2028'.encode())
    match int(rng.integers(6)):
        case 0 if data:
            flipped = bytearray(data)
            flipped[start % len(data)] ^= 1 << int(rng.integers(8))
            return bytes(flipped)
        case 1:
            return data[:start]
        case 2:
            return data[:stop] + data[start:]
        case 3:
            return data[:start] + data[stop:]
        case 4:
            return data[:start] + rng.bytes(stop - start) + data[stop:]
        case _:
            return data[:start] + inserted[int(rng.integers(len(inserted)))] + data[start:]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Returns container and key of everything in a JSON value."""
    places, level = [], [value]
    while level:
        container = level.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            places.append((container, key))
            if isinstance(container[key], dict | list):
                level.append(container[key])
    return places


def _in_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Puts another value in a place, removes, renames or doubles one."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # damaged before
        return _in_bytes(data, rng)
    places = _places(value) if isinstance(value, dict | list) else []
    if not places or rng.random() < 0.03:
        return _encode(VALUES[int(rng.integers(len(VALUES)))])
    # Small tables such as a vocabulary must not hide the other fields.
    by_container: dict[int, list[tuple[Any, Any]]] = {}
    for place in places:
        by_container.setdefault(id(place[0]), []).append(place)
    inside = list(by_container.values())[int(rng.integers(len(by_container)))]
    container, key = inside[int(rng.integers(len(inside)))]
    match int(rng.integers(6)):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[str(rng.choice(['x', 'a' * 3000, '', '\ud800', '__proto__']))] = (
                container.pop(key)
            )
        case 2:
            other, place = places[int(rng.integers(len(places)))]
            container[key] = copy.deepcopy(other[place])
        case 3 if isinstance(container, list):
            container.extend(container[:100])
        case _:
            container[key] = VALUES[int(rng.integers(len(VALUES)))]
    return _encode(value)


def _encode(value: Any) -> bytes:
    """Returns JSON text, raw texts put in unquoted."""
    text = json.dumps(value)
    for raw in (entry for entry in VALUES if isinstance(entry, str) and entry.startswith(RAW)):
        text = text.replace(json.dumps(raw), raw.removeprefix(RAW))
    return text.encode()


def _in_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages one line of JSON."""
    lines = data.split(b'\n')
    index = int(rng.integers(len(lines)))
    lines[index] = _in_json(lines[index], rng)
    return b'\n'.join(lines)


def _in_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages the header of a safetensors file, and says its new length or a wrong one."""
    length = int.from_bytes(data[:8], 'little')
    header = _in_json(data[8 : 8 + length], rng)
    said = len(header) if rng.random() < 0.9 else int(rng.choice([0, 1, 10**8, 2**62]))
    return said.to_bytes(8, 'little') + header + data[8 + length :]
