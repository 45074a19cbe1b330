"""CRC-32 of a whole from those of its parts, which may have been taken in any order.

zlib has this as `crc32_combine`, but Python's module does not export it.
"""

import functools

# The polynomial of zlib and PNG (RFC 1952, section 8), lowest power in the highest bit.
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31  # the polynomial 1


def _multiply(a: int, b: int) -> int:
    """Returns the product of two polynomials over GF(2), modulo the CRC's."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)  # b times x
    return product


@functools.lru_cache(maxsize=256)  # a file's pieces have few sizes
def _shift(num_bytes: int) -> int:
    """Returns x to the power of the number of bits, modulo the CRC's polynomial."""
    power, square = _ONE, _ONE >> 8  # 1 and x^8
    while num_bytes:
        if num_bytes & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        num_bytes >>= 1
    return power


def combine(first: int, second: int, second_bytes: int) -> int:
    """Returns the CRC-32 of two stretches of bytes, one after the other.

    Args:
      first: CRC-32 of the first stretch.
      second: CRC-32 of the second.
      second_bytes: length of the second, bytes.

    Source: zlib 1.2.12, crc32.c, `crc32_combine64`: crc(ab) = crc(a) x^(8 |b|) + crc(b).
    """
    return _multiply(_shift(second_bytes), first) ^ second
