"""`check`: try everything that can never work, each part once, and say which part is at fault."""

from collections.abc import Iterator
from http.client import HTTPException
from typing import NamedTuple

import typer

from shared.api.access import fetch, signing_keys
from shared.cli.console import mark, print_json, say
from shared.cli.options import FAILED, MISCONFIGURED, AsJson
from shared.deadline import Deadline
from shared.edx.client import EdxClient, EdxSession
from shared.errors import ConfigurationError, ConnectorError, EdxRefused, EdxThrottled, EdxUnavailable, NotFound
from shared.ncrontab import longest_gap_s
from shared.settings import (
    AccessSettings,
    EdxSettings,
    MappingSettings,
    StorageSettings,
    SyncSettings,
    TimerSettings,
    load,
    problems_of,
)
from shared.storage.account import Account
from shared.storage.tables import open_tables
from shared.sync.sessions import Sessions

_WITHIN_S = 90.0
_STORAGE_ADVICE = "check TABLES_CONNECTION_STRING, or TABLES_ENDPOINT and the role Storage Table Data Contributor"
_EXAMPLE = "local.settings.example.json has an example of each setting: copy it to local.settings.json"


class Finding(NamedTuple):
    """What came of one part: the exit code that it asks for, and a sentence; None when it was not tried."""

    part: str
    code: int | None
    text: str


def check(*, as_json: AsJson = False) -> None:
    """Try the settings, storage, edX and the JWKS, and say what to do about a failure."""
    findings = []
    for finding in _findings():
        findings.append(finding)
        if not as_json:
            say(f"{mark(is_good=finding.code == 0 if finding.code is not None else None)} {finding.part}: "
                f"{finding.text}")
    worst = max(finding.code or 0 for finding in findings)
    if as_json:
        print_json(
            [{"check": each.part, "ok": each.code == 0, "result": each.text} for each in findings]
        )
    elif worst == MISCONFIGURED:
        say(_EXAMPLE)
    if worst:
        raise typer.Exit(worst)


def _findings() -> Iterator[Finding]:
    yield _settings("settings of access", problems_of(AccessSettings))
    others = [
        problem
        for group in (EdxSettings, MappingSettings, SyncSettings, StorageSettings)
        for problem in problems_of(group)
    ]
    yield _settings("other settings", others)
    yield _schedule()
    storage = _storage()
    yield storage
    yield from _edx(is_storage_well=storage.code == 0)
    yield _jwks()


def _settings(part: str, problems: list[ConfigurationError]) -> Finding:
    if not problems:
        return Finding(part, 0, "complete")
    return Finding(part, MISCONFIGURED, ". ".join(problem.message for problem in problems))


def _schedule() -> Finding:
    problems = problems_of(TimerSettings)
    if problems:
        return _settings("schedule", problems)
    gap_s = longest_gap_s(load(TimerSettings).schedule)
    if gap_s == float("inf"):
        return Finding("schedule", MISCONFIGURED, "SYNC_SCHEDULE names no moment that ever comes")
    return Finding("schedule", 0, f"a sync at least every {age_text(gap_s)}")


def _storage() -> Finding:
    if problems_of(StorageSettings):
        return Finding("storage", None, "not tried, because its settings are incomplete")
    settings = load(StorageSettings)
    try:
        open_tables(settings, "check").account.try_out()
    except ConnectorError as error:
        return Finding("storage", FAILED, f"{error.message}; {_STORAGE_ADVICE}")
    return Finding("storage", 0, f"tables with the prefix {settings.prefix} can be read and written")


def _edx(*, is_storage_well: bool) -> Iterator[Finding]:
    if problems_of(EdxSettings):
        yield Finding("edX", None, "not tried, because its settings are incomplete")
        return
    if not is_storage_well:
        yield Finding("edX", None, "not tried, because storage holds what is known of edX's rate limit")
        return
    settings = load(EdxSettings)
    account = open_tables(load(StorageSettings), settings.client_id).account
    sessions = Sessions(EdxClient(settings), account, lambda _level, _line: None)
    deadline = Deadline.after(_WITHIN_S)
    try:
        sessions.wait_for_rate_limit(deadline)
        with sessions.open(deadline) as edx:
            listed = sorted(catalog.id for catalog in edx.catalogs())
            yield Finding("edX", 0, f"our credentials are accepted; {counted(len(listed), 'catalog')} listed")
            yield _catalogs(edx, settings.catalog_ids, listed)
    except ConnectorError as error:
        yield Finding("edX", FAILED, error.message + _edx_advice(error))
