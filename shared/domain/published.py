"""The published state of a catalog: how it is packed, rendered and read. Pure; table_store keeps it.

It is a copy, derived from the stored course runs, of the two things that would otherwise cost a read of
every entity: the digests that a sync compares with, and the body that an answer sends.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from pydantic_core import from_json

from shared.domain.course_run import MappedRun, availability, rfc3339

DIGEST_BYTES = 16
WITHDRAWN = bytes(DIGEST_BYTES)
"""The digest of a withdrawn run: no content has it, so that a run that comes back is written again."""

HOLDS_FOR_EVER = "9999-12-31T23:59:59Z"
_ID_BYTES = 16
_ID_START = b'{"id":"'
_AVAILABILITY = b',"availability":"'
_GZIP_LEVEL = 6
_LINES_A_CHUNK = 256  # compressing line by line costs a call each, all at once costs the whole body in memory


@dataclass(frozen=True)
class Head:
    """The head of a catalog's published state: small, read for every answer, swapped last.

    `synced_at` is the end of the last sync that counts. `writing` names a sync that began to write course
    runs and has not published since: the digests may be behind the entities. `unidentified` counts the
    records without a readable key that edX is known to send: none of them is a run that was stored.

    The guard against mass loss compares with what the last sync that counts left in the answer. That is this
    body, unless a sync that the guard stopped published it: then `counted_generation` names the earlier
    generation, whose body parts stay in storage. `counted_runs` is the number of runs in that body; versions
    before 0.2 compare with it.
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
    """A run that an answer may show: listed by edX and not withdrawn."""

    courserun_key: str
    start_date: str | None
    end_date: str | None
    json: bytes  # as course_run.stored_json writes it


class Body(NamedTuple):
    """A catalog as it is answered.

    `packed` is the gzip form of a JSON array with one run on each line, sorted by `courserunKey`. `tag`
    names the JSON: equal tags, equal JSON. The body is right from the moment that it was rendered for
    until `holds_until` (RFC 3339, exclusive): then a run begins or ends.
    """

    packed: bytes
    tag: str
    holds_until: str
    runs: int


def digest(mapped: MappedRun, run_json: bytes) -> bytes:
    """Return the digest of all that is stored of a run."""
    return blake2b(run_json, digest_size=DIGEST_BYTES, key=b"listed" if mapped.listed else b"").digest()


def checksum(data: bytes) -> str:
    """Return the checksum that tells a damaged part of the published state from a whole one."""
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def pack_digests(digests: Mapping[bytes, bytes]) -> bytes:
    """Pack run id → digest into 32 bytes a run."""
    return b"".join(run_id + digests[run_id] for run_id in sorted(digests))


def unpack_digests(packed: bytes) -> dict[bytes, bytes]:
    """Read what `pack_digests` wrote."""
    width = _ID_BYTES + DIGEST_BYTES
    return {
        packed[at : at + _ID_BYTES]: packed[at + _ID_BYTES : at + width]
        for at in range(0, len(packed), width)
    }


def served(mapped: MappedRun, run_json: bytes) -> ServedRun | None:
    """Return what an answer shows of a run, None when edX does not list it."""
    if not mapped.listed:
        return None
    run = mapped.run
    return ServedRun(run.courserun_key, run.start_date, run.end_date, run_json)


def render(runs: Iterable[ServedRun], now: datetime) -> Body:
    """Render the answer at a moment: ended runs left out, availability worked out, sorted by key."""
    moment = rfc3339(now)
    shown = []
    holds_until = HOLDS_FOR_EVER
    for run in sorted(runs, key=attrgetter("courserun_key")):
        state = availability(run.start_date, run.end_date, moment)
        if state is None:
            continue
        shown.append(run.json[:-1] + _AVAILABILITY + state.encode() + b'"}')
        for boundary in (run.start_date, run.end_date):
            if boundary is not None and moment < boundary < holds_until:
                holds_until = boundary
    return join(shown, holds_until)


def join(shown: list[bytes], holds_until: str) -> Body:
    """Pack rendered runs, one JSON object each and sorted, into a body."""
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, wbits=31)
    hashed = blake2b(digest_size=DIGEST_BYTES)
    packed = []
    for at in range(0, len(shown) or 1, _LINES_A_CHUNK):
        chunk = (b"[" if at == 0 else b",\n") + b",\n".join(shown[at : at + _LINES_A_CHUNK])
        if at + _LINES_A_CHUNK >= len(shown):
            chunk += b"]"
        hashed.update(chunk)
        packed.append(compressor.compress(chunk))
    packed.append(compressor.flush())
    return Body(b"".join(packed), hashed.hexdigest(), holds_until, len(shown))


def unpack(packed: bytes) -> bytes:
    """Return the JSON of a packed body."""
    return zlib.decompress(packed, wbits=31)


def lines(body_json: bytes) -> Iterator[bytes]:
    """Return the runs of a body, one JSON object each, in order."""
    return (line.strip(b"[],") for line in body_json.split(b"\n") if line != b"[]")


def line_of(body_json: bytes, run_id: str) -> bytes | None:
    """Return one run of a body, None when the body does not show it.

    Every object begins with its id, and a quotation mark inside a JSON text is escaped, so that this
    beginning stands nowhere else.
    """
    start = body_json.find(_ID_START + run_id.encode() + b'"')
    if start < 0:
        return None
    end = body_json.find(b"\n", start)
    return body_json[start : None if end < 0 else end].rstrip(b"],")


def run_id_of(line: bytes) -> bytes:
    """Return the id of a run of a body, packed."""
    return UUID(line[len(_ID_START) : len(_ID_START) + 36].decode()).bytes


def courserun_key_of(line: bytes) -> str:
    """Return the `courserunKey` of a run of a body."""
    return str(from_json(line)["courserunKey"])


def served_runs(body_json: bytes) -> Iterator[tuple[bytes, ServedRun]]:
    """Read a body back: what `render` was given, less what had ended then, with each run's packed id."""
    for line in lines(body_json):
        run = from_json(line)
        yield (
            run_id_of(line),
            ServedRun(
                run["courserunKey"],
                run.get("startDate"),
                run.get("endDate"),
                line[: line.rindex(_AVAILABILITY)] + b"}",
            ),
        )
