"""What a pull takes away in the end, and whether the guard lets it."""

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
    """What leaves the answer.

    Attributes:
        missing: stored runs to withdraw: edX does not show them, for sure.
        leaving: all runs that leave or can no longer be mapped, by reason; callers may not see some of them.
        lost: those of them that callers of the last sync that counted would lose.
        stopped: the guard's error; then none of `lost` may leave.
    """

    missing: Sequence[bytes] = ()
    leaving: Mapping[LossReason, Sequence[bytes]] = field(default_factory=dict)
    lost: Mapping[LossReason, set[bytes]] = field(default_factory=dict)
    stopped: MassLoss | None = None

    @property
    def staying(self) -> set[bytes]:
        """The runs that must stay in the answer as they are, because the guard stopped the sync."""
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
    """Decide what a pull takes away.

    A pull that is not whole withdraws nothing; `progress.incomplete` says so, also where records without a
    key could be the missing runs.

    Args:
        catalog_id: for the sentences.
        state: what is stored.
        progress: what the pull found.
        moment: now (RFC 3339, UTC).
        percent: how much of what is served may be lost.
        allow: the operator allows the losses of this run.
    """
    comparison = progress.comparison
    missing = [] if progress.incomplete else comparison.missing()
    unidentified = comparison.unidentified - (state.head.unidentified if state.head else 0)
    if missing and unidentified > 0 and not allow:
        progress.incomplete = (
            f"{unidentified} new records without a readable key could be among the {len(missing)} runs that "
            "are missing. If none of them is, withdraw the runs once: "
            f"python -m shared sync --catalog {catalog_id} --allow-withdrawals"
        )
        missing = []
    candidates: dict[LossReason, list[bytes]] = {"missing": missing, **comparison.departures()}
    leaving = {reason: ids for reason, ids in candidates.items() if ids}
    if not leaving:
        return Decision()
    lost = lost_runs(state.counted, leaving, moment)
    stopped = None if allow else guard(state.counted, lost, moment, percent=percent, catalog_id=catalog_id)
    return Decision(missing, leaving, lost, stopped)
