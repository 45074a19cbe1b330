"""Values between two processes that do not trust each other: JSON with tags.

Only plain values can arrive: None, bool, int, float, complex, str, bytes, list, tuple, set,
frozenset, dict, range, Decimal, numpy arrays, and handles of objects that stay where they
are. So nothing that is received can run code or compare itself as it likes, which pickle
and marshal do not promise.
"""

import decimal
import json
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

MAX_BYTES = 32 << 20  # of one message


class ProtocolError(Exception):
    """What arrived is no message, or a value cannot be sent."""


def send(descriptor: int, message: Any) -> None:
    """Writes one message: length, then JSON.

    Raises:
      ProtocolError: if it is longer than `MAX_BYTES`.
      OSError: if the other side is gone.
    """
    body = json.dumps(message).encode()
    if len(body) > MAX_BYTES:
        raise ProtocolError(f'message of {len(body)} bytes, at most {MAX_BYTES} can be sent')
    rest = memoryview(struct.pack('>I', len(body)) + body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int) -> Any:
    """Reads one message.

    Raises:
      EOFError: if the other side is gone.
      ProtocolError: if the bytes are no message.
    """
    (length,) = struct.unpack('>I', _read(descriptor, 4))
    if length > MAX_BYTES:
        raise ProtocolError(f'message of {length} bytes, at most {MAX_BYTES} are taken')
    try:
        return json.loads(_read(descriptor, length))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f'not a message: {error}') from None


def text_of(error: BaseException, limit: int = 200) -> str:
    """Returns what an exception says, cut and printable, whatever it holds.

    `str` of an exception runs code of the exception, refuses integers of more than 4,300 digits,
    and may give surrogates that no file can hold.
    """
    try:
        text = str(error)[:limit]
    except BaseException as failure:  # noqa: BLE001 whatever a foreign exception raises
        text = f'(its text cannot be made: {type(failure).__name__})'
    return text.encode('utf-8', 'backslashreplace').decode()


def _read(descriptor: int, length: int) -> bytes:
    """Reads exactly `length` bytes."""
    parts = []
    while length:
        part = os.read(descriptor, min(length, 1 << 20))
        if not part:
            raise EOFError('the other process ended')
        parts.append(part)
        length -= len(part)
    return b''.join(parts)


def encode(value: Any, handle: Callable[[Any], Any]) -> Any:
    """Makes a value JSON-able; `handle` names what cannot travel, or raises."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if value.bit_length() < _SMALL else {'int': hex(value)}
    if kind is list:
        return [item if type(item) in _PLAIN else encode(item, handle) for item in value]
    if kind is tuple:
        return {'tuple': [encode(item, handle) for item in value]}
    if isinstance(value, dict):
        return {'dict': [[encode(k, handle), encode(v, handle)] for k, v in dict.items(value)]}
    for base, name in _SEQUENCES.items():
        if isinstance(value, base):
            items = [encode(item, handle) for item in base.__iter__(value)]
            return items if base is list else {name: items}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):  # subclasses: enumerations, numpy.float64
        return encode(int(value) if isinstance(value, int) else float(value), handle)
    if kind is range:
        return {'range': [encode(part, handle) for part in (value.start, value.stop, value.step)]}
    if kind is complex:
        return {'complex': [value.real, value.imag]}
    if kind in (bytes, bytearray):
        return {'bytes': value.hex()}
    if kind is decimal.Decimal:
        return {'decimal': str(value)}
    if kind.__module__ == 'numpy' and hasattr(value, 'tolist'):
        plain = encode(value.tolist(), handle)
        return {'array': plain} if hasattr(value, '__len__') else plain
    return {'handle': handle(value)}


_PLAIN = frozenset((type(None), bool, float, str))
_SMALL = 64  # bits; longer integers travel in hexadecimal, as Python refuses long decimal ones
_SEQUENCES: dict[Any, str] = {list: 'list', tuple: 'tuple', set: 'set', frozenset: 'frozenset'}
_SEQUENCE_TYPES: dict[str, Any] = {name: base for base, name in _SEQUENCES.items()}


def decode(data: Any, handle: Callable[[Any], Any]) -> Any:
    """Rebuilds a value from what `encode` made.

    Raises:
      ProtocolError: if `data` is nothing that `encode` makes.
    """
    if type(data) in _PLAIN or type(data) is int:
        return data
    if type(data) is list:
        return [item if type(item) in _PLAIN else decode(item, handle) for item in data]
    if not (isinstance(data, dict) and len(data) == 1):
        raise ProtocolError('not an encoded value')
    ((tag, body),) = data.items()
    try:
        if tag in _SEQUENCE_TYPES:
            return _SEQUENCE_TYPES[tag]([decode(item, handle) for item in body])
        if tag == 'dict':
            return {decode(key, handle): decode(item, handle) for key, item in body}
        if tag == 'int':
            return int(body, 16)
        if tag == 'range':
            return range(*[decode(part, handle) for part in body])
        if tag == 'complex':
            return complex(*body)
        if tag == 'bytes':
            return bytes.fromhex(body)
        if tag == 'decimal':
            return decimal.Decimal(body)
        if tag == 'array' and 'numpy' in sys.modules:
            return sys.modules['numpy'].array(decode(body, handle))
    except (TypeError, ValueError, decimal.InvalidOperation) as error:
        raise ProtocolError(f'not an encoded {tag}: {error}') from None
    if tag == 'handle':
        return handle(body)
    raise ProtocolError(f'unknown tag {tag[:40]!r}')
