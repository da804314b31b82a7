"""Protocol Buffers' wire format, written: the few kinds of fields that OTLP's messages are made of.

A message is its fields' bytes one after the other, so that it is put together by joining, and what many messages have
in common is made once. Making the objects of the generated classes first took a fifth of what a failure costs; they
name the fields' numbers here, and read all of this back in the tests. Nothing here knows a message.
"""

_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
_MOST = 2**64


def varint(value: int) -> bytes:
    """Write an integer; one below zero as its two's complement of 64 bits."""
    if 0 <= value < 0x80:
        return _SHORT[value]
    value %= _MOST
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT = tuple(bytes([value]) for value in range(0x80))


def _tags(kind: int) -> tuple[bytes, ...]:
    return tuple(varint(number << 3 | kind) for number in range(32))


_VARINT_TAGS, _FIXED64_TAGS, _SIZED_TAGS, _FIXED32_TAGS = map(_tags, (_VARINT, _FIXED64, _SIZED, _FIXED32))


def sized(number: int, body: bytes) -> bytes:
    """Write field `number` (up to 31): text as UTF-8, bytes, or a message."""
    size = len(body)
    return _SIZED_TAGS[number] + (_SHORT[size] if size < 0x80 else varint(size)) + body


def opening(number: int, size: int) -> bytes:
    """Write what stands before the `size` bytes of field `number`."""
    return _SIZED_TAGS[number] + varint(size)


def integer(number: int, value: int) -> bytes:
    """Write field `number` as int32, int64, uint32, uint64, bool or enum."""
    return _VARINT_TAGS[number] + varint(value)


def fixed64(number: int, value: int) -> bytes:
    """Write field `number` as fixed64: 0 to 2**64 - 1."""
    return _FIXED64_TAGS[number] + value.to_bytes(8, "little")


def fixed32(number: int, value: int) -> bytes:
    """Write field `number` as fixed32: 0 to 2**32 - 1."""
    return _FIXED32_TAGS[number] + value.to_bytes(4, "little")
