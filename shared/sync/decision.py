"""Decides which runs leave the answer after a pull, and applies the guard against mass loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.domain.comparison import LossReason
from shared.domain.withdrawal import guard, lost_runs
from shared.errors import MassLoss
from shared.sync.run import Progress
from shared.sync.state import StoredState


@dataclass(frozen=True)
class Decision:
    """The runs that leave the answer.

    Attributes:
        missing: the stored runs to withdraw; a complete pull did not contain them.
        leaving: all runs that leave or can no longer be mapped, by reason; some may not be served now.
        lost: the part of `leaving` that was in the answer after the last successful sync.
        doubt: why a complete pull withdraws nothing; None when it may withdraw runs.
        stopped: the error of the guard, or None; with an error, all of `lost` stays in the answer.
    """

    missing: Sequence[str] = ()
    leaving: Mapping[LossReason, Sequence[str]] = field(default_factory=dict)
    lost: Mapping[LossReason, set[str]] = field(default_factory=dict)
    stopped: MassLoss | None = None
    doubt: str | None = None

    @property
    def staying(self) -> set[str]:
        """The runs that stay in the answer unchanged, because the guard stopped the sync."""
        return set().union(*self.lost.values()) if self.stopped else set()


def decide(
    catalog_id: int,
    state: StoredState,
    progress: Progress,
    *,
    moment: str,
    percent: int,
    allow: bool,
) -> Decision:
    """Decide which runs leave the answer after a pull.

    An incomplete pull withdraws nothing. Neither does one with new records without a key, which could be the
    missing runs.

    Args:
        catalog_id: for the messages.
        state: the stored state before the sync.
        progress: the result of the pull.
        moment: now (RFC 3339, UTC).
        percent: the highest allowed loss, as a percentage of the served runs.
        allow: allow losses above the limit for this sync.
    """
    comparison = progress.comparison
    missing = [] if progress.incomplete else comparison.missing()
    unidentified = comparison.unidentified - (state.head.unidentified if state.head else 0)
    doubt = None
    if missing and unidentified > 0 and not allow:
        doubt = (
            f"{unidentified} new records without a readable key could be among the {len(missing)} runs that "
            "are missing. If they are other runs, withdraw the missing ones: "
            f"python -m shared sync --catalog {catalog_id} --allow-withdrawals"
        )
        missing = []
    candidates: dict[LossReason, list[str]] = {"missing": missing, **comparison.departures()}
    leaving = {reason: ids for reason, ids in candidates.items() if ids}
    if not leaving:
        return Decision(doubt=doubt)
    lost = lost_runs(state.counted, leaving, moment)
    stopped = None if allow else guard(state.counted, lost, moment, percent=percent, catalog_id=catalog_id)
    return Decision(missing, leaving, lost, stopped, doubt)
