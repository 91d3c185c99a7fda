"""The attacks of tests/attacks.py over HTTP through the replacement host."""

from collections.abc import Iterator

import pytest
import requests

from local.host.process import HostProcess
from local.sandbox import Sandbox
from tests.attacks import ATTACKS, PATHS, Attack, guarded_settings, secrets


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Sandbox, HostProcess]]:
    with (
        Sandbox() as sandbox,
        HostProcess(guarded_settings(sandbox) | {"SYNC_SCHEDULE": "0 0 0 1 1 *"}) as host,
    ):
        yield sandbox, host


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_edx_and_storage_are_not_reached_and_no_secret_is_shown_when_attacked(
    attack: Attack, path: str, guarded: tuple[Sandbox, HostProcess]
) -> None:
    sandbox, host = guarded
    sandbox.forget_requests()
    headers = attack.sent_headers(sandbox)

    answer = requests.request(
        attack.method,
        host.url + attack.target(path),
        headers={name: value.encode() for name, value in headers.items()},  # the host reads them as UTF-8
        timeout=20,
    )

    assert answer.status_code == attack.status
    assert {request.path for request in sandbox.requests} <= {"/jwks"}
    told = f"{host.log}{answer.headers}{answer.text}"
    assert not [secret for secret in secrets(sandbox, headers) if secret in told]
