"""What a scraper can read: the exposition format and the compression that its headers ask for.

Total on any header. Compressing the product metrics, the big part of a scrape, is remembered until they change, and
parts are never put together: a hundred slow readers hold one copy.
"""

import struct
import zlib
from functools import lru_cache


def wants_openmetrics(accept: str) -> bool:
    """Whether an `Accept` header prefers OpenMetrics 1.x over the text format, by `q`, then by its order.

    Whatever cannot be read of it counts as not said: every scraper understands the text format.
    """
    preferred = (0.0, False)
    for offer in accept.split(","):
        media_type, options = _read_offer(offer)
        match media_type:
            case "application/openmetrics-text":
                openmetrics = options.get("version", "1.0.0").split(".")[0] == "1"
                if not openmetrics:
                    continue
            case "text/plain" | "text/*" | "*/*":
                openmetrics = False
            case _:
                continue
        quality = _quality(options)
        if quality > preferred[0]:
            preferred = (quality, openmetrics)
    return preferred[1]


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` header takes gzip."""
    for offer in accept_encoding.split(","):
        coding, options = _read_offer(offer)
        if coding == "gzip":
            return _quality(options) > 0
    return False


def gzipped(head: bytes, tail: bytes) -> tuple[bytes, ...]:
    """`head + tail` as one gzip member, in parts; compressing `head` is remembered until it changes."""
    opened, crc = _deflated(head)
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    closed = deflater.compress(tail) + deflater.flush()
    trailer = struct.pack("<II", zlib.crc32(tail, crc), (len(head) + len(tail)) & 0xFFFF_FFFF)
    return _GZIP_HEADER, opened, closed + trailer


_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"


@lru_cache(maxsize=2)  # one for each format
def _deflated(head: bytes) -> tuple[bytes, int]:
    """A deflate stream that ends on a byte and goes on in any other, and the checksum so far."""
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(head) + deflater.flush(zlib.Z_FULL_FLUSH), zlib.crc32(head)


def _read_offer(offer: str) -> tuple[str, dict[str, str]]:
    """One of the things that an `Accept…` header lists, in small letters, and its options."""
    name, _, rest = offer.partition(";")
    return name.strip().lower(), dict(option.strip().split("=", 1) for option in rest.split(";") if "=" in option)


def _quality(options: dict[str, str]) -> float:
    try:
        return min(float(options.get("q", "1")), 1.0)
    except ValueError:
        return 0.0
