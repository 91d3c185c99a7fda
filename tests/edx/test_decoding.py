import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.edx.decoding import decoded
from shared.errors import EdxProtocolError

BODY = b'{"count": 1, "results": [{"key": "a"}]}'
PACKED = gzip.compress(BODY, mtime=0)
MIB = 2**20


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (BODY, ""),
        (BODY, "identity"),
        (PACKED, "gzip"),
        (PACKED, "x-gzip"),
        (zlib.compress(BODY), "deflate"),
        (gzip.compress(BODY[:9], mtime=0) + gzip.compress(BODY[9:], mtime=0), "gzip"),
    ],
)
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_a_body_is_decompressed_when_it_arrives_in_chunks_of_any_size(
    packed: bytes, encoding: str, chunk_size: int
) -> None:
    chunks = [packed[i : i + chunk_size] for i in range(0, len(packed), chunk_size)]
    assert decoded(chunks, encoding, MIB) == BODY


@given(st.integers(1, len(PACKED) - 1))
def test_a_gzip_body_is_an_error_when_it_is_truncated_at_any_byte(length: int) -> None:
    with pytest.raises(EOFError):
        decoded([PACKED[:length]], "gzip", MIB)


def test_an_empty_body_is_accepted_when_its_encoding_is_gzip() -> None:
    assert decoded([], "gzip", MIB) == b""


def test_padding_is_ignored_when_it_follows_the_end() -> None:
    assert decoded([PACKED, b"\0" * 100], "gzip", MIB) == BODY
    assert decoded([PACKED + b"\0", b"\0"], "gzip", MIB) == BODY


def test_a_body_is_an_error_when_its_checksum_is_wrong() -> None:
    with pytest.raises(zlib.error):
        decoded([PACKED[:-8] + b"\0" * 8], "gzip", MIB)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "none"])
def test_a_body_is_an_error_when_its_encoding_was_not_requested(encoding: str) -> None:
    with pytest.raises(EOFError):
        decoded([PACKED], encoding, MIB)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_the_size_limit_applies_to_the_decompressed_body(encoding: str) -> None:
    def packed(size: int) -> bytes:
        return gzip.compress(b" " * size) if encoding else b" " * size

    assert len(decoded([packed(MIB)], encoding, MIB)) == MIB
    with pytest.raises(EdxProtocolError, match="more than 1 MiB"):
        decoded([packed(MIB + 1)], encoding, MIB)
