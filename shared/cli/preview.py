"""Prints the preview for `sync --dry-run`: totals, then the changes by run and field."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from shared.cli.console import counted
from shared.domain.course_run import MappedRun, StoredRun
from shared.domain.withdrawal import LOSS_WORDS
from shared.sync.preview import Preview


def preview_json(catalog_id: int, preview: Preview) -> dict[str, Any]:
    """Return a preview for JSON output; a missing value is null."""
    return {
        "catalog": catalog_id,
        "outcome": "preview",
        "totals": _totals(preview),
        "changes": [
            {
                "kind": change.kind,
                "courserunKey": change.mapped.run.courserun_key,
                "fields": {
                    name: {"before": before, "after": after}
                    for name, before, after in _differences(stored, change.mapped)
                },
            }
            for stored, change in preview.changes
        ],
        "withdrawn": _keys(preview.gone),
        "lost": {reason: _keys(runs) for reason, runs in preview.lost.items()},
        "incomplete": preview.report.incomplete,
        "stopped": preview.stopped.message if preview.stopped else None,
    }


def preview_lines(catalog_id: int, preview: Preview) -> Iterator[str]:
    """Yield the lines of a preview for people."""
    totals = _totals(preview)
    kinds = ", ".join(
        f"{number} {kind}"
        for kind, number in totals.items()
        if number and kind in {"created", "changed", "restored"}
    )
    yield (
        f"Catalog {catalog_id}: {counted(len(preview.changes), 'run')} would be written"
        f"{f' ({kinds})' if kinds else ''}, {totals['withdrawn']} withdrawn; {totals['unchanged']} "
        f"{'is' if totals['unchanged'] == 1 else 'are'} unchanged. Nothing was written."
    )
    for reason, runs in preview.lost.items():
        yield f"Callers would lose {counted(len(runs), 'run')} {LOSS_WORDS[reason]}."
    if preview.stopped:
        yield f"The guard would stop the sync: {preview.stopped.message}"
    for stored, change in preview.changes:
        key = change.mapped.run.courserun_key
        if change.kind == "created":
            yield f"created {key}{_in_short(change.mapped)}"
            continue
        yield f"{change.kind} {key}"
        for name, before, after in _differences(stored, change.mapped):
            yield f"  {name}: {_shown(before)} → {_shown(after)}"
    yield from (f"withdrawn {key}" for key in _keys(preview.gone))


def _totals(preview: Preview) -> dict[str, int]:
    kinds = Counter(change.kind for _, change in preview.changes)
    return {
        "created": kinds["created"],
        "changed": kinds["changed"],
        "restored": kinds["restored"],
        "unchanged": preview.report.unchanged,
        "withdrawn": len(preview.gone),
        "rejected": preview.report.rejected,
    }


def _in_short(mapped: MappedRun) -> str:
    run = mapped.run
    dates = " to ".join(date[:10] for date in (run.start_date, run.end_date) if date)
    credit = None if run.modular_credit is None else f"{run.modular_credit} MC"
    facts = [fact for fact in (dates, run.price and f"{run.price} USD", run.type, credit) if fact]
    if not mapped.is_published:
        facts.append("not published")
    return f": {', '.join(facts)}" if facts else ""


def _differences(stored: StoredRun | None, mapped: MappedRun) -> list[tuple[str, object, object]]:
    """Return the fields that a write would change, with the value before and after (None for no value)."""
    before = _fields(stored.mapped) if stored and stored.mapped else {}
    after = _fields(mapped)
    return [
        (name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _fields(mapped: MappedRun) -> dict[str, Any]:
    return mapped.run.model_dump(by_alias=True) | {"listed": mapped.is_published}


def _keys(runs: list[StoredRun]) -> list[str]:
    return [stored.mapped.run.courserun_key if stored.mapped else stored.run_id for stored in runs]


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
