"""What is kept in Azure Table Storage, and under which keys. What is written when is sync's business.

<prefix>CourseRuns    PartitionKey = catalog id
                      RowKey = run id (UUID)              a course run
                               lease                      who syncs this catalog, see lease.py
                               published                  head of the published state
                               published-<generation>-…   its parts
<prefix>SyncReports   PartitionKey = catalog id, RowKey = newest first
<prefix>Accounts      PartitionKey = digest of the edX client id, RowKey = throttled | catalogs
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from azure.data.tables import TableServiceClient

from shared.domain.attempts import FinishedSync
from shared.domain.catalog_id import parse_catalog_id
from shared.domain.catalog_list import CatalogList
from shared.domain.course_run import MappedRun, StoredRun, is_uuid
from shared.domain.published import Body, Head, checksum, pack_digests, unpack_digests
from shared.domain.sync_report import SyncReport
from shared.errors import StorageError
from shared.settings import StorageSettings
from shared.storage.entities import (
    Entity,
    head_from,
    head_properties,
    moment_from,
    report_entity,
    report_from,
    report_key,
    run_entity,
    stored_run,
)
from shared.storage.lease import Lease, acquire
from shared.storage.table import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    EntityRefused,
    Operation,
    Table,
    deleting,
    merging,
    replacing,
)

RUNS_A_BATCH = 99  # a batch takes 100 operations, and the lease is one of them
# Of UTF-8 JSON, which the escapes of the SDK can treble; the service takes 4 MiB with all headers.
BATCH_BYTES = 2**20
_PROPERTY_BYTES = 64 * 2**10
_PART_BYTES = 10 * _PROPERTY_BYTES  # an entity takes 1 MiB, which Azurite counts in base64
_HEAD = "published"
_RUNS = "PartitionKey eq @catalog and RowKey lt 'g'"  # run ids are hexadecimal, the other row keys are words
_PARTS = "PartitionKey eq @catalog and RowKey gt 'published-' and RowKey lt 'published.'"
REPORTS_KEPT = timedelta(days=90)


class StateDamaged(StorageError):
    """A published state that cannot be read whole; a sync that rebuilds it heals it."""

    def __init__(self, catalog_id: int, problem: str) -> None:
        super().__init__(f"The published state of catalog {catalog_id} {problem}")
        self.catalog_id = catalog_id


class TableStore:
    """The tables of the connector. Thread-safe; every method is I/O and may raise StorageError."""

    def __init__(self, settings: StorageSettings, credential: object = None) -> None:
        options: dict[str, Any] = {
            "connection_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retry_total": 0,  # see tables.py
            "use_env_settings": False,  # a .netrc would replace the signature
        }
        if settings.connection_string:
            service = TableServiceClient.from_connection_string(
                settings.connection_string.get_secret_value(), **options
            )
        else:
            service = TableServiceClient(settings.endpoint or "", credential=credential, **options)  # type: ignore[arg-type]
        self._runs = Table(service.get_table_client(f"{settings.prefix}CourseRuns"))
        self._reports = Table(service.get_table_client(f"{settings.prefix}SyncReports"))
        self._accounts = Table(service.get_table_client(f"{settings.prefix}Accounts"))

    # Reading the published state

    def head(self, catalog_id: int) -> Head | None:
        """Return the head of a catalog's published state; None when there is none that can be read."""
        entity = self._runs.get(str(catalog_id), _HEAD)
        return head_from(entity) if entity is not None else None

    def body(self, catalog_id: int, head: Head) -> bytes:
        """Return the packed body that a head names.

        Raises:
            StateDamaged: parts are missing (a newer generation may have replaced them) or damaged.
        """
        return self._parts(catalog_id, head.generation, "body", head.body_parts, head.body_checksum)

    def digests(self, catalog_id: int, head: Head) -> dict[bytes, bytes]:
        """Return run id → digest of every stored run, as of the head's generation.

        Raises:
            StateDamaged: as for `body`.
        """
        return unpack_digests(
            self._parts(catalog_id, head.generation, "digests", head.digest_parts, head.digest_checksum)
        )

    def _parts(self, catalog_id: int, generation: str, kind: str, count: int, expected: str) -> bytes:
        parts: list[bytes] = []
        for number in range(count):
            entity = self._runs.get(str(catalog_id), _part_key(generation, kind, number))
            if entity is None:
                raise StateDamaged(catalog_id, "is not whole")
            parts.extend(entity[name] for name in sorted(entity) if name.startswith("data"))
        try:
            data = b"".join(parts)
        except TypeError:
            data = b""
        if checksum(data) != expected:
            raise StateDamaged(catalog_id, "is damaged")
        return data

    # Course runs

    def runs(self, catalog_id: int) -> Iterator[StoredRun]:
        """Read every stored course run of a catalog, withdrawn ones too."""
        for entity in self._runs.query(_RUNS, {"catalog": str(catalog_id)}):
            if is_uuid(entity["RowKey"]):  # any other is none of ours
                yield stored_run(entity)

    def run(self, catalog_id: int, run_id: str) -> StoredRun | None:
        """Read one stored course run."""
        entity = self._runs.get(str(catalog_id), run_id)
        return stored_run(entity) if entity is not None else None

    # A sync's writing

    def acquire(self, catalog_id: int, sync_id: str, wait_s: float) -> CatalogWriter | FinishedSync:
        """Become the one that syncs a catalog, or wait for the one that does: see lease.acquire."""
        held = acquire(self._runs, str(catalog_id), sync_id, wait_s)
        return (
            held if isinstance(held, FinishedSync) else CatalogWriter(self._runs, catalog_id, sync_id, held)
        )

    # Reports

    def add_report(self, report: SyncReport) -> None:
        """Keep a report, and drop those of its catalog that are older than 90 days."""
        catalog = str(report.catalog_id)
        self._reports.put(report_entity(report))
        old = self._reports.query(
            "PartitionKey eq @catalog and RowKey gt @oldest",
            {"catalog": catalog, "oldest": report_key(report.ended - REPORTS_KEPT)},
            select=["PartitionKey", "RowKey"],
        )
        batch: list[Operation] = []
        with suppress(EntityRefused):  # rows that another sync's end removed meanwhile
            for row in old:
                batch.append(deleting(dict(row)))
                if len(batch) == RUNS_A_BATCH:
                    self._reports.commit(batch)
                    batch = []
            if batch:
                self._reports.commit(batch)

    def reports(self, catalog_id: int | None = None, limit: int = 20) -> list[SyncReport]:
        """Return the newest reports, of one catalog or of all, newest first."""
        if catalog_id is None:
            rows = self._reports.query("PartitionKey ne @none", {"none": ""})
        else:
            rows = self._reports.query("PartitionKey eq @catalog", {"catalog": str(catalog_id)})
        found: list[SyncReport] = []
        for row in rows:
            with suppress(KeyError, TypeError, ValueError):  # written by another version, or by hand
                found.append(report_from(row))
            if catalog_id is not None and len(found) == limit:
                break
        return sorted(found, key=lambda report: report.ended, reverse=True)[:limit]

    # The edX account

    def try_out(self, client_id: str) -> None:
        """Write and read a row that nobody uses, for the operator's check."""
        key = {"PartitionKey": _account_key(client_id), "RowKey": "check"}
        self._accounts.put(key)
        self._accounts.get(key["PartitionKey"], key["RowKey"])

    def throttled_until(self, client_id: str) -> datetime | None:
        """Return the moment before which edX answers this client id nothing, if one is remembered."""
        entity = self._accounts.get(_account_key(client_id), "throttled")
        return moment_from(entity.get("until")) if entity is not None else None

    def remember_throttled(self, client_id: str, until: datetime) -> None:
        """Remember that edX answers this client id nothing before a moment, the latest one that it named."""
        known = self.throttled_until(client_id)
        if known is not None and known > until:
            return
        self._accounts.put(
            {"PartitionKey": _account_key(client_id), "RowKey": "throttled", "until": until.isoformat()}
        )

    def catalog_list(self, client_id: str) -> CatalogList | None:
        """Return the catalogs that edX listed last for this client id; None when no list can be read."""
        entity: Entity = self._accounts.get(_account_key(client_id), "catalogs") or {}
        ids, listed_at = entity.get("catalogIds"), moment_from(entity.get("listedAt"))
        # A part of a list would take the other catalogs out of the answer.
        if listed_at is None or not isinstance(ids, str):
            return None
        catalog_ids = [parse_catalog_id(each) for each in ids.split(",")] if ids else []
        if None in catalog_ids:
            return None
        return CatalogList(tuple(each for each in catalog_ids if each), listed_at)

    def remember_catalogs(self, client_id: str, catalogs: CatalogList) -> None:
        """Remember the catalogs that edX lists for this client id."""
        self._accounts.put(
            {
                "PartitionKey": _account_key(client_id),
                "RowKey": "catalogs",
                "catalogIds": ",".join(map(str, catalogs.catalog_ids)),
                "listedAt": catalogs.listed_at.isoformat(),
            }
        )


class CatalogWriter:
    """Writes to one catalog as the holder of its lease; every write may raise LeaseLost."""

    def __init__(self, runs: Table, catalog_id: int, sync_id: str, lease: Lease) -> None:
        self._table = runs
        self._catalog = str(catalog_id)
        self._sync_id = sync_id
        self._lease = lease
        self._pending: dict[str, MappedRun] = {}  # by id: a batch takes no row twice, and the later counts
        self._pending_bytes = 0
        self._marked = False
        self.refused: list[tuple[MappedRun, str]] = []
        """Course runs that storage refused for their content, with its reason; the others were written."""

    @property
    def previous(self) -> FinishedSync:
        """How the sync before this one ended; to let the lease go as if nothing had been."""
        return self._lease.previous

    def kept_alive(self) -> AbstractContextManager[None]:
        """Renew the lease while a block runs."""
        return self._lease.kept_alive()

    def put(self, mapped: MappedRun, size: int) -> None:
        """Write a course run, with others in one batch; `size` is that of its JSON in bytes."""
        if self._pending and self._pending_bytes + size > BATCH_BYTES:
            self.flush()
        self._pending[mapped.run.id] = mapped
        self._pending_bytes += size
        if len(self._pending) == RUNS_A_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what `put` still holds back."""
        pending = list(self._pending.values())
        self._pending, self._pending_bytes = {}, 0
        while pending:
            try:
                self._write([replacing(run_entity(self._catalog, mapped)) for mapped in pending])
            except EntityRefused as refusal:
                self.refused.append((pending.pop(refusal.index), refusal.code))
            else:
                return

    def withdraw(self, run_ids: Iterable[bytes], at: datetime) -> None:
        """Mark course runs as withdrawn; all else of them stays as it was."""
        marks = [
            merging({**self._key(str(UUID(bytes=run_id))), "withdrawnAt": at.isoformat()})
            for run_id in run_ids
        ]
        for start in range(0, len(marks), RUNS_A_BATCH):
            self._write(marks[start : start + RUNS_A_BATCH])

    def _write(self, operations: Sequence[Operation]) -> None:
        if not self._marked:
            self._lease.commit([merging({**self._key(_HEAD), "writing": self._sync_id})])
            self._marked = True
        self._lease.commit(operations)

    def publish(
        self,
        previous: Head | None,
        body: Body,
        digests: Mapping[bytes, bytes],
        *,
        synced_at: datetime | None,
        unidentified: int,
        finished: FinishedSync | None = None,
    ) -> None:
        """Publish a new state, its head swapped last; with `finished` let the lease go in the same step.

        The previous generation stays, for readers who are in the middle of it; older ones are removed.
        """
        packed_digests = pack_digests(digests)
        body_parts = self._write_parts("body", body.packed)
        digest_parts = self._write_parts("digests", packed_digests)
        kept = {self._sync_id, previous.generation if previous else ""}
        with suppress(EntityRefused):  # rows that another hand removed meanwhile
            self._remove_parts_except(kept)
        head = Head(
            generation=self._sync_id,
            body_parts=body_parts,
            body_checksum=checksum(body.packed),
            digest_parts=digest_parts,
            digest_checksum=checksum(packed_digests),
            tag=body.tag,
            holds_until=body.holds_until,
            runs=body.runs,
            synced_at=synced_at,
            unidentified=unidentified,
            counted_runs=previous.counted_runs if previous and previous.synced_at == synced_at else body.runs,
        )
        self._swap(head, finished)

    def confirm(self, head: Head, synced_at: datetime, unidentified: int, finished: FinishedSync) -> None:
        """Say that the published state is that of a sync which ended now, and let the lease go."""
        confirmed = dataclasses.replace(
            head, synced_at=synced_at, unidentified=unidentified, counted_runs=head.runs
        )
        self._swap(confirmed, finished)

    def release(self, finished: FinishedSync) -> None:
        """Let the lease go without publishing anything."""
        self._lease.commit([], finished)

    def _swap(self, head: Head, finished: FinishedSync | None) -> None:
        self._lease.commit([replacing(self._key(_HEAD) | head_properties(head))], finished)

    def _write_parts(self, kind: str, data: bytes) -> int:
        count = 0
        for start in range(0, len(data), _PART_BYTES):
            part = data[start : start + _PART_BYTES]
            entity: Entity = self._key(_part_key(self._sync_id, kind, count))
            for at in range(0, len(part), _PROPERTY_BYTES):
                entity[f"data{at // _PROPERTY_BYTES:02d}"] = part[at : at + _PROPERTY_BYTES]
            self._lease.commit([replacing(entity)])
            count += 1
        return count

    def _remove_parts_except(self, generations: set[str]) -> None:
        rows = self._table.query(_PARTS, {"catalog": self._catalog}, select=["PartitionKey", "RowKey"])
        old = [dict(row) for row in rows if row["RowKey"].split("-")[1] not in generations]
        for start in range(0, len(old), RUNS_A_BATCH):
            self._lease.commit([deleting(row) for row in old[start : start + RUNS_A_BATCH]])

    def _key(self, row_key: str) -> Entity:
        return {"PartitionKey": self._catalog, "RowKey": row_key}


def _part_key(generation: str, kind: str, number: int) -> str:
    return f"published-{generation}-{kind}-{number:04d}"


def _account_key(client_id: str) -> str:
    return sha256(client_id.encode()).hexdigest()  # a client id may hold what a key may not
