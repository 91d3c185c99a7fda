"""`show KEY`: shows one course run in every catalog that has it, and the reason for its modular credit."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from shared.cli.changes import changes_since, changes_table
from shared.cli.console import print_json, say
from shared.cli.options import AsJson
from shared.cli.parts import connector
from shared.cli.runs import run_values
from shared.domain.course_run import CourseRun, MappedRun, course_run_id, rfc3339
from shared.domain.credits import Approval
from shared.errors import NotFound

_HIDDEN = {"catalog", "listed", "approvedCredit", "approvalNote", "proposedCredit"}


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key of a course run.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show one course run: its fields, its state, the reason for its modular credit, and its changes."""
    known = connector().catalogs.known()
    approvals = connector().tables.credits.all()
    now = rfc3339(datetime.now(UTC))
    found = []
    for catalog_id in sorted({*known.catalog_ids, *known.left} if known else ()):
        stored = connector().tables.catalogs.run(catalog_id, course_run_id(key))
        if stored is None or stored.mapped is None:
            continue
        approval = approvals.of(stored.mapped)
        found.append(
            {
                **run_values(catalog_id, stored.mapped, stored.withdrawn_at, now, approvals),
                "creditReason": credit_reason(
                    stored.mapped, approval, connector().settings.mapping.modular_credit_hours
                ),
                "changes": list(changes_since(None, [catalog_id], key)),
            }
        )
    if not found:
        raise NotFound(f"None of our catalogs has a course run with the key {key}")
    if as_json:
        print_json(found)
        return
    for values in found:
        _say(values)


def _say(values: dict[str, Any]) -> None:
    say(f"{values['courserunKey']} in catalog {values['catalog']}", "bold")
    shown = {
        name: value
        for name, value in values.items()
        if name not in {*_HIDDEN, "changes", "creditReason"} and value is not None
    }
    width = max(map(len, [*shown, "modularCredit"]))
    for name, value in shown.items():
        if name != "modularCredit":
            say(f"  {name:{width}}  {value}")
    credit = "none" if values.get("modularCredit") is None else values["modularCredit"]
    say(f"  {'modularCredit':{width}}  {credit} ({values['creditReason']})")
    if values["changes"]:
        say("Changes of the last 90 days:")
        changes_table(values["changes"])
    else:
        say("  No change in the last 90 days.")


def credit_reason(mapped: MappedRun, approval: Approval | None, hours: int) -> str:
    """Return whether the credit comes from an approval or from the formula, and how.

    Args:
        mapped: the run as stored.
        approval: the approval that applies to it.
        hours: the current setting of hours per modular credit.
    """
    follows_approval = approval is not None and mapped.run.modular_credit == approval.credit
    # Rows of versions before 0.2 have no proposed credit; their credit is the result of the formula.
    is_proposed = mapped.proposed_credit is not None or (
        mapped.run.modular_credit is not None and not follows_approval
    )
    formula = formula_reason(mapped.run, hours, is_proposed=is_proposed)
    if approval is None:
        return f"by formula: {formula}"
    of = "this run" if approval.key == mapped.run.courserun_key else f"the course {approval.key}"
    note = f" ({approval.note})" if approval.note else ""
    later = "" if follows_approval else ", which takes effect with the next sync"
    return (
        f"{approval.credit} approved for {of} by {approval.by} on {approval.at:%Y-%m-%d}{note}{later}. "
        f"The formula proposes {formula}"
    )


def formula_reason(run: CourseRun, hours: int, *, is_proposed: bool) -> str:
    """Return how the formula computes the credit from weeks and effort, or why there is none."""
    efforts = [effort for effort in (run.min_effort, run.max_effort) if effort is not None]
    weeks = run.weeks_to_complete
    if weeks is None:
        return "none, because edX does not say how many weeks the run takes"
    if not efforts:
        return "none, because edX does not say how many hours a week the run takes"
    if not sum(efforts):
        return "none, because edX says 0 hours a week"
    mean = sum(efforts) / len(efforts)
    now = weeks * sum(efforts) // (len(efforts) * hours)
    if not is_proposed:
        return f"none, because edX sends no weeks ({weeks} is computed from the dates, which give no credit)"
    return f"{now} = {weeks} weeks x {mean:g} hours a week / {hours} hours a credit, rounded down"
