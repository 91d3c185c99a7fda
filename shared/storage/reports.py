"""Stores the reports of syncs for 90 days."""

from contextlib import suppress
from datetime import timedelta

from shared.domain.sync_report import SyncReport
from shared.storage.entities import newest_first_key, report_entity, report_from
from shared.storage.failures import EntityRefused
from shared.storage.table import OPERATIONS_PER_BATCH, Operation, Table, deleting

KEPT = timedelta(days=90)


class Reports:
    """The reports of all catalogs. Thread-safe; every method does I/O and may raise StorageError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, report: SyncReport, *, in_one_try: bool = False) -> None:
        """Store a report, and delete reports of its catalog that are older than 90 days.

        Args:
            report: of a sync that has ended.
            in_one_try: do not retry. For a sync that failed because of storage: its caller is waiting, and
                the log contains the report, too.
        """
        self._table.put(report_entity(report), in_one_try=in_one_try)
        old = self._table.query(
            "PartitionKey eq @catalog and RowKey gt @oldest",
            {"catalog": str(report.catalog_id), "oldest": newest_first_key(report.ended - KEPT)},
            select=["PartitionKey", "RowKey"],
        )
        batch: list[Operation] = []
        with suppress(EntityRefused):  # another sync has already deleted the rows
            for row in old:
                batch.append(deleting(dict(row)))
                if len(batch) == OPERATIONS_PER_BATCH:
                    self._table.commit(batch)
                    batch = []
            if batch:
                self._table.commit(batch)

    def newest(self, catalog_id: int | None = None, limit: int | None = None) -> list[SyncReport]:
        """Return reports of one catalog or of all, newest first; with `limit`, only the newest ones."""
        if catalog_id is None:
            rows = self._table.query("PartitionKey ne @none", {"none": ""})
        else:
            rows = self._table.query("PartitionKey eq @catalog", {"catalog": str(catalog_id)})
        found: list[SyncReport] = []
        for row in rows:
            with suppress(KeyError, TypeError, ValueError):  # skip a report in an unknown format
                found.append(report_from(row))
            if catalog_id is not None and len(found) == limit:
                break
        return sorted(found, key=lambda report: report.ended, reverse=True)[:limit]
