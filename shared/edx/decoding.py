"""Decompresses the body of an answer, with a size limit, and checks that it is complete."""

import zlib
from collections.abc import Iterable

from shared.errors import EdxProtocolError

_PLAIN = {"", "identity"}
_GZIP_BEGINS = b"\x1f"
_PACKED = {"gzip", "x-gzip", "deflate"}


def decoded(chunks: Iterable[bytes], encoding: str, max_bytes: int) -> bytes:
    """Return a body without its content encoding.

    urllib3 and requests accept a gzip body that ends before its trailer, so it is decompressed here.

    Args:
        chunks: the body as received.
        encoding: the Content-Encoding in lower case; "" when there is none.
        max_bytes: the size limit of the result.

    Raises:
        zlib.error, EOFError: the body is broken, ends early, or has an encoding that was not asked for.
        EdxProtocolError: the result is larger than `max_bytes`.
    """
    if encoding not in _PLAIN | _PACKED:
        raise EOFError
    is_packed = encoding in _PACKED
    parts: list[bytes] = []
    room = max_bytes
    unpacker = None
    for chunk in chunks:
        packed = chunk
        while packed:
            part, packed = packed, b""
            if is_packed:
                if unpacker and unpacker.eof and not part.startswith(_GZIP_BEGINS):
                    break  # padding after the end
                if unpacker is None or unpacker.eof:  # gzip allows several members
                    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # accepts a gzip and a zlib header
                part = unpacker.decompress(part, room + 1)
                packed = unpacker.unconsumed_tail or unpacker.unused_data
            parts.append(part)
            room -= len(part)
            if room < 0:
                raise EdxProtocolError(f"edX sent an answer of more than {max_bytes // 2**20} MiB")
    if unpacker and not unpacker.eof:
        raise EOFError
    return b"".join(parts)
