"""The guard against mass loss: which runs callers of a catalog would lose, and when that is too many. Pure.

Every reason for a loss counts: a run is missing, is no longer published, ended by a date that edX moved into
the past, or has a record that can no longer be mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from shared.domain.comparison import LossReason
from shared.errors import MassLoss

NEVER_SUSPICIOUS = 10
"""A loss of this many runs is allowed, unless it is at least half of a small catalog."""

NEVER_SUSPICIOUS_HALF = 3
"""A loss of this many runs is always allowed."""

LOSS_WORDS: Final[Mapping[LossReason, str]] = {
    "missing": "no longer shown by edX",
    "unpublished": "no longer published",
    "ended": "ended by a date that edX moved into the past",
    "unmappable": "with a record that cannot be read any more",
}


def lost_runs(
    served: Mapping[str, str | None], leaving: Mapping[LossReason, Iterable[str]], moment: str
) -> dict[LossReason, set[str]]:
    """Return the runs that callers would lose, by reason; reasons without a run are left out.

    Args:
        served: the runs in the answer after the last successful sync: run id → end date, as known then.
        leaving: the runs that the pull removes or can no longer map, by reason.
        moment: now (RFC 3339, UTC). A run whose known end has passed is not a loss.
    """
    lost = {reason: {run_id for run_id in ids if run_id in served} for reason, ids in leaving.items()}
    still_open = {
        reason: {run_id for run_id in ids if not _has_passed(served[run_id], moment)}
        for reason, ids in lost.items()
    }
    return {reason: ids for reason, ids in still_open.items() if ids}


def guard(
    served: Mapping[str, str | None],
    lost: Mapping[LossReason, Iterable[str]],
    moment: str,
    *,
    percent: int,
    catalog_id: int,
) -> MassLoss | None:
    """Return the error that stops a sync which would remove too many runs; None when the loss is allowed.

    Too many is more than `percent` % of the served runs, and also either more than ten runs, or more than
    three and at least half of a small catalog.
    """
    total = sum(not _has_passed(end, moment) for end in served.values())
    numbers = {reason: len(list(ids)) for reason, ids in lost.items()}
    losing = sum(numbers.values())
    is_many = losing > NEVER_SUSPICIOUS or (losing > NEVER_SUSPICIOUS_HALF and 2 * losing >= total)
    if not is_many or 100 * losing <= percent * total:
        return None
    (first, *others) = numbers
    reasons = (
        ", ".join(f"{number} {LOSS_WORDS[reason]}" for reason, number in numbers.items())
        if others
        else LOSS_WORDS[first]
    )
    return MassLoss(
        f"callers would lose {losing} of {total}, {reasons}; SYNC_MAX_WITHDRAW_PERCENT allows {percent} %. "
        "The sync stopped, and nothing was taken away. If edX is right, allow it for one sync: "
        f"python -m shared sync --catalog {catalog_id} --allow-withdrawals"
    )


def _has_passed(end: str | None, moment: str) -> bool:
    return end is not None and end <= moment
