"""`check`: tests settings, storage, edX and the JWKS once each, and says which part fails and what to do."""

from collections.abc import Iterator, Sequence
from math import isinf
from typing import NamedTuple

import typer

from shared.api.signing_keys import fetch_keys
from shared.cli.console import counted, mark, print_json, say
from shared.cli.options import FAILED, MISCONFIGURED, AsJson
from shared.cli.times import duration_text
from shared.deadline import Deadline
from shared.edx.client import EdxClient, EdxSession
from shared.errors import (
    ConfigurationError,
    ConnectorError,
    EdxRefused,
    EdxThrottled,
    NotFound,
    StorageError,
)
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
from shared.storage.tables import open_tables
from shared.sync.sessions import Sessions

_WITHIN_S = 90.0
_EXAMPLE = (
    "local.settings.example.json in the repository has an example of each setting: copy it to "
    "local.settings.json, or set them in the environment."
)


class Finding(NamedTuple):
    """The result for one part: its name, its exit code (None: it was not tried) and a sentence."""

    part: str
    code: int | None
    text: str


_CATALOGS_UNTRIED = Finding("catalogs", None, "not tried, because edX must work first")


def check(*, as_json: AsJson = False) -> None:
    """Try the settings, storage, edX and the JWKS, and say what to do about a failure. Begin here."""
    findings = []
    for finding in _findings():
        findings.append(finding)
        if not as_json:
            is_good = None if finding.code is None else finding.code == 0
            say(f"{mark(is_good=is_good)} {finding.part}: {finding.text}")
    worst = max(finding.code or 0 for finding in findings)
    if as_json:
        print_json([{"check": each.part, "ok": each.code == 0, "result": each.text} for each in findings])
    elif worst == MISCONFIGURED:
        say(_EXAMPLE)
    if worst:
        raise typer.Exit(worst)


def _findings() -> Iterator[Finding]:
    access = problems_of(AccessSettings)
    complete = "" if access else counted(len(load(AccessSettings).subscription_keys), "subscription key")
    yield _settings("settings of access", access, complete)
    others = [
        problem
        for group in (EdxSettings, MappingSettings, SyncSettings, StorageSettings)
        for problem in problems_of(group)
    ]
    yield _settings("other settings", others, "complete")
    yield _schedule()
    storage = _storage()
    yield storage
    yield from _edx(is_storage_well=storage.code == 0)
    yield _jwks(access)


def _settings(part: str, problems: Sequence[ConfigurationError], complete: str) -> Finding:
    if not problems:
        return Finding(part, 0, complete)
    return Finding(part, MISCONFIGURED, ". ".join(problem.message for problem in problems))


def _schedule() -> Finding:
    problems = problems_of(TimerSettings)
    if problems:
        return _settings("schedule", problems, "")
    gap_s = longest_gap_s(load(TimerSettings).schedule)
    if isinf(gap_s):
        return Finding("schedule", MISCONFIGURED, "SYNC_SCHEDULE matches no date; correct it")
    return Finding("schedule", 0, f"the timer fires at least every {duration_text(gap_s)}")


def _storage() -> Finding:
    if problems_of(StorageSettings):
        return Finding("storage", None, "not tried, because its settings are not complete")
    settings = load(StorageSettings)
    try:
        open_tables(settings, "check").account.try_out()
    except ConnectorError as error:
        return Finding("storage", FAILED, error.message)
    return Finding("storage", 0, f"tables with the prefix {settings.prefix} can be read and written")


def _edx(*, is_storage_well: bool) -> Iterator[Finding]:
    untried = (
        "not tried, because its settings are not complete"
        if problems_of(EdxSettings)
        else None
        if is_storage_well
        else "not tried: its rate limit is remembered in storage, which must work first"
    )
    if untried:
        yield Finding("edX", None, untried)
        yield _CATALOGS_UNTRIED
        return
    settings = load(EdxSettings)
    account = open_tables(load(StorageSettings), settings.client_id).account
    sessions = Sessions(EdxClient(settings), account, lambda _level, _line: None)
    deadline = Deadline.after(_WITHIN_S)
    try:
        sessions.wait_for_rate_limit(deadline)
        with sessions.open(deadline) as edx:
            listed = {catalog.id for catalog in edx.catalogs()}
            catalogs = _catalogs(edx, settings.catalog_ids, listed)
    except ConnectorError as error:
        yield Finding("edX", FAILED, f"{error.message}{_edx_advice(error)}")
        yield _CATALOGS_UNTRIED
        return
    yield Finding("edX", 0, f"accepts our credentials, and lists {counted(len(listed), 'catalog')}")
    yield catalogs


def _edx_advice(error: ConnectorError) -> str:
    if isinstance(error, EdxThrottled):
        return "; the settings are correct: wait until then"
    if isinstance(error, StorageError):
        return ""
    if isinstance(error, EdxRefused):
        return "; check EDX_CLIENT_ID and EDX_CLIENT_SECRET, and that edX has approved the account"
    return "; check EDX_API_URL and EDX_TOKEN_URL, and that edX can be reached from here"


def _catalogs(edx: EdxSession, configured: Sequence[int], listed: set[int]) -> Finding:
    """Compare EDX_CATALOG_IDS with edX's list; a catalog that is not in the list may still be readable."""
    if not configured:
        if listed:
            return Finding("catalogs", 0, f"all catalogs that edX lists will be synced: {_ids(listed)}")
        return Finding(
            "catalogs", FAILED, "edX lists no catalog for our credentials; ask edX to give them access to one"
        )
    hidden = [
        catalog_id for catalog_id in configured if catalog_id not in listed and _is_hidden(edx, catalog_id)
    ]
    if hidden:
        return Finding(
            "catalogs",
            FAILED,
            f"edX does not show us {_ids(hidden)} of EDX_CATALOG_IDS (it lists {_ids(listed) or 'none'}); "
            "correct EDX_CATALOG_IDS, or ask edX for access",
        )
    return Finding("catalogs", 0, f"edX shows us all of EDX_CATALOG_IDS: {_ids(configured)}")


def _is_hidden(edx: EdxSession, catalog_id: int) -> bool:
    try:
        edx.catalog(catalog_id)
    except NotFound:
        return True
    return False


def _ids(catalogs: Sequence[int] | set[int]) -> str:
    return ", ".join(map(str, sorted(catalogs)))


def _jwks(problems: Sequence[ConfigurationError]) -> Finding:
    if problems:
        return Finding("JWKS", None, "not tried, because the settings of access are not complete")
    try:
        keys = fetch_keys(load(AccessSettings).jwks_url)
    except ConnectorError as error:
        return Finding(
            "JWKS", FAILED, f"{error.message}; check ADMIN_JWKS_URL, and that it can be reached from here"
        )
    return Finding("JWKS", 0, f"{counted(len(keys), 'key')} that can sign RS256")
