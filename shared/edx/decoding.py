"""Unpacks the body of an answer, bounded in size, and finds out whether all of it came."""

import zlib
from collections.abc import Iterable

from shared.errors import EdxProtocolError

_PLAIN = {"", "identity"}
_GZIP_BEGINS = b"\x1f"
_PACKED = {"gzip", "x-gzip", "deflate"}


def decoded(chunks: Iterable[bytes], encoding: str, max_bytes: int) -> bytes:
    """Return a body without its content encoding.

    urllib3 and requests take a gzip body that ends before its trailer for whole, so it is unpacked here.

    Args:
        chunks: the body as it came.
        encoding: the Content-Encoding, in lower case, "" when there is none.
        max_bytes: the most that may come out.

    Raises:
        zlib.error, EOFError: the body is broken, ends early, or is in an encoding that was not asked for.
        EdxProtocolError: more than `max_bytes` come out.
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
                    break  # padding behind the end
                if unpacker is None or unpacker.eof:  # gzip may come in several members
                    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip's and zlib's header alike
                part = unpacker.decompress(part, room + 1)
                packed = unpacker.unconsumed_tail or unpacker.unused_data
            parts.append(part)
            room -= len(part)
            if room < 0:
                raise EdxProtocolError(f"edX sent an answer of more than {max_bytes // 2**20} MiB")
    if unpacker and not unpacker.eof:
        raise EOFError
    return b"".join(parts)
