"""dlt used as in its documentation: a resource that yields pages, a destination that takes batches."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"  # read when dlt is imported

import dlt  # type: ignore[import-not-found,unused-ignore]  # only in bench/requirements.txt

Entities = list[dict[str, Any]]


@contextmanager
def pipeline(write: Callable[[Entities], None]) -> Iterator[Callable[[Iterable[Entities]], None]]:
    """Make a pipeline that ends in `write`; call it with the pages."""

    def tables(items: Entities, table: object) -> None:
        del table
        write(items)

    with TemporaryDirectory() as directory:
        made = dlt.pipeline(
            "bench",
            destination=dlt.destination(
                tables, batch_size=100, naming_convention="direct", skip_dlt_columns_and_tables=True
            ),
            pipelines_dir=directory,
        )

        def run(pages: Iterable[Entities]) -> None:
            made.run(dlt.resource(pages, name="course_runs", max_table_nesting=0)).raise_on_failed_jobs()

        yield run
