"""The pull of a catalog: fetch, map, compare, write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from shared.domain.comparison import Change
from shared.domain.course_run import MappedRun, Rejection
from shared.domain.credits import Approvals
from shared.edx.client import EdxSession
from shared.edx.mapping import map_course
from shared.edx.walk import CourseWalk
from shared.settings import MappingSettings
from shared.sync.run import Progress

PULLS = 2
"""A pull that is not whole is made once more."""

OnProgress = Callable[[int, int | None], None]
"""Told the courses pulled so far, and how many there are when edX said so."""


def pull(
    edx: EdxSession,
    catalog_id: int,
    progress: Progress,
    *,
    approvals: Approvals,
    rules: MappingSettings,
    now: datetime,
    write: Callable[[Change], None],
    on_progress: OnProgress,
) -> CourseWalk:
    """Pull a catalog and write what differs as it comes in; return the last walk through its pages.

    Args:
        edx: the session to ask.
        catalog_id: the edX catalog.
        progress: brought up to date; `incomplete` says in the end why the pull is not whole.
        approvals: the credits that administrators approved.
        rules: for mapping.
        now: the moment of the pull (aware, UTC), by which a seat can be bought or cannot.
        write: takes each change.
        on_progress: told after each page.
    """
    comparison = progress.comparison
    for _ in range(PULLS):
        comparison.begin_pull()
        progress.courses = 0
        walk = edx.courses(catalog_id)
        for courses in walk:
            for course in courses:
                for record in map_course(course, rules, now):
                    change = comparison.compare(_approved(record, approvals, progress))
                    if change is not None:
                        write(change)
            progress.courses += len(courses)
            on_progress(progress.courses, walk.count)
        progress.incomplete = "; ".join(walk.problems) or None
        if not walk.problems or not walk.is_worth_repeating:
            break
    return walk


def _approved(
    record: MappedRun | Rejection, approvals: Approvals, progress: Progress
) -> MappedRun | Rejection:
    approval = approvals.of(record) if isinstance(record, MappedRun) else None
    if approval is None or not isinstance(record, MappedRun):
        return record
    progress.notes[UUID(record.run.id).bytes] = approval.note
    return approval.applied_to(record)
