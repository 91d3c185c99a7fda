"""The published state of a catalog: how it is packed, rendered and read. Pure; storage/writer.py stores it.

It is derived from the stored course runs and saves reading every entity: the digests that a sync compares
with, and the body that an answer sends.
"""

import heapq
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import NamedTuple

from pydantic_core import from_json

from shared.domain.course_run import MappedRun, availability, rfc3339

DIGEST_BYTES = 16
WITHDRAWN = bytes(DIGEST_BYTES)
"""The digest of a withdrawn run. It differs from every real digest, so that a run that returns is written."""

HOLDS_FOR_EVER = "9999-12-31T23:59:59Z"
_ID_BYTES = 16
_ID_START = b'{"id":"'
_AVAILABILITY = b',"availability":"'
_GZIP_LEVEL = 6
_LINES_PER_CHUNK = 256  # one line at a time is slow; all lines at once need too much memory
_UNPACKED_BYTES_PER_CHUNK = 2**18
# How each line begins: see `course_run.stored_json`, which writes the fields in the model's order.
_KEY_OF_LINE = re.compile(rb'\{"id":"[0-9a-f-]{36}","courserunKey":("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Head:
    """The head of a catalog's published state: small, read for every answer, replaced last.

    `synced_at` is the end of the last successful sync. `writing` is the id of a sync that began to write
    course runs and has not published yet: the digests may be older than the entities. `unidentified` is the
    known number of edX records without a readable key; none of them is a stored run.

    The guard against mass loss compares with the body of the last successful sync. That is this body, unless
    a sync that the guard stopped published it: then `counted_generation` names the earlier generation, whose
    body parts stay in storage. `counted_runs` is the number of runs in that body; versions before 0.2 use it.
    """

    generation: str = ""
    body_parts: int = 0
    body_checksum: str = ""
    digest_parts: int = 0
    digest_checksum: str = ""
    tag: str = ""
    holds_until: str = ""
    runs: int = 0
    synced_at: datetime | None = None
    writing: str = ""
    unidentified: int = 0
    counted_runs: int = 0
    counted_generation: str = ""
    counted_body_parts: int = 0
    counted_body_checksum: str = ""


class ServedRun(NamedTuple):
    """A run that can be in an answer: published by edX and not withdrawn."""

    courserun_key: str
    start_date: str | None
    end_date: str | None
    json: bytes  # as course_run.stored_json writes it


class Body(NamedTuple):
    """The answer for a catalog.

    `packed` is a gzipped JSON array with one run on each line, sorted by `courserunKey`. `tag` is a hash of
    the JSON: equal tags mean equal JSON. The body is valid from its rendering time until `holds_until`
    (RFC 3339, exclusive), when a run begins or ends.
    """

    packed: bytes
    tag: str
    holds_until: str
    runs: int


def digest(mapped: MappedRun, run_json: bytes) -> bytes:
    """Return the digest of everything that is stored of a run."""
    return blake2b(run_json, digest_size=DIGEST_BYTES, key=b"listed" if mapped.is_published else b"").digest()


def checksum(data: bytes) -> str:
    """Return the checksum by which damage to the published state is detected."""
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def pack_digests(digests: Mapping[str, bytes]) -> bytes:
    """Pack run id → digest into 32 bytes per run: the 16 bytes of the UUID, then the digest."""
    return b"".join(bytes.fromhex(run_id.replace("-", "")) + digests[run_id] for run_id in sorted(digests))


def unpack_digests(packed: bytes) -> dict[str, bytes]:
    """Read what `pack_digests` wrote."""
    width = _ID_BYTES + DIGEST_BYTES
    return {
        _uuid_text(packed[at : at + _ID_BYTES].hex()): packed[at + _ID_BYTES : at + width]
        for at in range(0, len(packed), width)
    }


def _uuid_text(digits: str) -> str:
    # The same as str(UUID(hex=digits)), in a fifth of the time.
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def served(mapped: MappedRun, run_json: bytes) -> ServedRun | None:
    """Return the run as answers contain it; None when edX does not publish it."""
    if not mapped.is_published:
        return None
    run = mapped.run
    return ServedRun(run.courserun_key, run.start_date, run.end_date, run_json)


def render(runs: Iterable[ServedRun], now: datetime) -> Body:
    """Render the answer at `now`: without ended runs, with availability, sorted by key."""
    return _render_sorted(sorted(runs, key=attrgetter("courserun_key")), now)


def render_again(packed: bytes, now: datetime) -> Body:
    """Render a packed body for a later time; holds only a part of it in memory at once."""
    return _render_sorted((run for _, run in _served_runs(_lines(packed))), now)


def merge(bodies: Sequence[bytes]) -> Body:
    """Merge packed bodies into one that contains each run once, as in the first body that has it."""
    keyed = [((courserun_key_of(line), line) for line in _lines(packed)) for packed in bodies]
    packer = _Packer()
    last = None
    for key, line in heapq.merge(*keyed, key=itemgetter(0)):  # of equal keys, the first body's comes first
        if key != last:
            packer.add(line)
        last = key
    return packer.body(HOLDS_FOR_EVER)


def _render_sorted(runs: Iterable[ServedRun], now: datetime) -> Body:
    moment = rfc3339(now)
    packer = _Packer()
    holds_until = HOLDS_FOR_EVER
    for run in runs:
        state = availability(run.start_date, run.end_date, moment)
        if state is None:
            continue
        packer.add(run.json[:-1] + _AVAILABILITY + state.encode() + b'"}')
        for boundary in (run.start_date, run.end_date):
            if boundary is not None and moment < boundary < holds_until:
                holds_until = boundary
    return packer.body(holds_until)


class _Packer:
    """Packs sorted, rendered runs (one JSON object each) into a body, one by one."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, wbits=31)
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._packed: list[bytes] = []
        self._waiting: list[bytes] = []
        self._runs = 0

    def add(self, line: bytes) -> None:
        self._waiting.append(line)
        if len(self._waiting) == _LINES_PER_CHUNK:
            self._pack()

    def body(self, holds_until: str) -> Body:
        self._pack(end=b"]")
        self._packed.append(self._compressor.flush())
        return Body(b"".join(self._packed), self._hash.hexdigest(), holds_until, self._runs)

    def _pack(self, end: bytes = b"") -> None:
        start = b"[" if self._runs == 0 else b",\n" if self._waiting else b""
        chunk = start + b",\n".join(self._waiting) + end
        self._runs += len(self._waiting)
        self._waiting.clear()
        self._hash.update(chunk)
        self._packed.append(self._compressor.compress(chunk))


def unpack(packed: bytes) -> bytes:
    """Return the JSON of a packed body."""
    return zlib.decompress(packed, wbits=31)


def _lines(packed: bytes) -> Iterator[bytes]:
    """Yield the runs of a packed body in order, one JSON object each; the body is unpacked lazily."""
    unpacker = zlib.decompressobj(wbits=31)
    rest = b""
    while not unpacker.eof:
        chunk = unpacker.decompress(packed, _UNPACKED_BYTES_PER_CHUNK)
        packed = unpacker.unconsumed_tail
        if not chunk and not unpacker.eof:
            raise zlib.error("the body is truncated")
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.strip(b"[],") for line in whole)
    if rest != b"[]":
        yield rest.strip(b"[],")


def line_of(body_json: bytes, run_id: str) -> bytes | None:
    """Return one run of a body, or None when the body does not contain it.

    Every object begins with its id. Quotation marks inside a JSON text are escaped, so that the search text
    cannot occur anywhere else.
    """
    start = body_json.find(_ID_START + run_id.encode() + b'"')
    if start < 0:
        return None
    end = body_json.find(b"\n", start)
    return body_json[start : None if end < 0 else end].rstrip(b"],")


def courserun_key_of(line: bytes) -> str:
    """Return the `courserunKey` of a run of a body."""
    match = _KEY_OF_LINE.match(line)
    return str(from_json(match[1]) if match else from_json(line)["courserunKey"])


def served_runs(body_json: bytes) -> Iterator[tuple[str, ServedRun]]:
    """Read a body: yield each run with its id; runs that had ended when it was rendered are absent."""
    return _served_runs(line.strip(b"[],") for line in body_json.split(b"\n") if line != b"[]")


def _served_runs(lines: Iterable[bytes]) -> Iterator[tuple[str, ServedRun]]:
    dates: dict[str | None, str | None] = {}  # many runs share a date: keep one text for all
    for line in lines:
        run = from_json(line)
        start_date, end_date = run.get("startDate"), run.get("endDate")
        yield (
            line[len(_ID_START) : len(_ID_START) + 36].decode(),
            ServedRun(
                run["courserunKey"],
                dates.setdefault(start_date, start_date),
                dates.setdefault(end_date, end_date),
                line[: line.rindex(_AVAILABILITY)] + b"}",
            ),
        )
