"""`catalogs`: lists the catalogs that edX has for our credentials."""

from shared.cli.console import comment, print_json, print_table
from shared.cli.layout import Row
from shared.cli.options import AsJson, Catalog
from shared.cli.parts import connector
from shared.deadline import Deadline
from shared.sync.sync import LIFETIME_S


def catalogs(*, catalog: Catalog = None, as_json: AsJson = False) -> None:
    """List the catalogs that edX has for our credentials; EDX_CATALOG_IDS can name these ids."""
    deadline = Deadline.after(LIFETIME_S)
    connector().syncer.sessions.wait_for_rate_limit(deadline)
    with connector().syncer.sessions.open(deadline) as edx:
        found = [edx.catalog(catalog)] if catalog else sorted(edx.catalogs(), key=lambda each: each.id)
    if as_json:
        print_json([each.model_dump() for each in found])
        return
    print_table(
        ("id", "name", "courses"), [Row([str(each.id), each.name, str(each.courses_count)]) for each in found]
    )
    comment(
        "courses: as edX counts them, archived ones too"
        if found
        else "edX lists no catalog for our credentials; ask edX for access to one"
    )
