"""The message for a failure of Table Storage names the cause and the host, never a query or a secret."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.data.tables import TableClient, TableTransactionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from requests_mock import ANY, Mocker
from urllib3.exceptions import ConnectTimeoutError, ProtocolError, ReadTimeoutError

from local.azurite import Azurite
from shared.errors import StorageError
from shared.settings import StorageSettings
from shared.storage.failures import (
    ConditionFailed,
    EntityRefused,
    NotThere,
    TokenMissing,
    as_ours,
    is_retriable,
    retry_after_s,
)
from shared.storage.table import Table
from shared.storage.tables import Tables, open_tables
from tests.clock import Clock
from tests.sockets import unaccepting
from tests.storage.syncs import NOW
from tests.table_proxy import TableProxy, cut_body, cut_head, drop

SECRET = "c2VjcmV0LWtleQ=="


def connection_string(endpoint: str) -> str:
    return f"AccountName=acc;AccountKey={SECRET};TableEndpoint={endpoint}"


def tables_at(endpoint: str, clock: Clock) -> Tables:
    settings = StorageSettings(connection_string=SecretStr(connection_string(endpoint)))
    return open_tables(settings, "client", now=clock.now, clock=clock.monotonic, sleep=clock.sleep)


def failure_of(tables: Tables) -> str:
    with pytest.raises(StorageError) as failure:
        tables.catalogs.head(1)
    assert failure.value.__cause__ is None
    assert "published" not in str(failure.value)
    assert SECRET not in str(failure.value)
    return str(failure.value)


def test_error_asks_whether_azurite_is_running_when_loopback_storage_refuses_the_connection(
    clock: Clock,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    assert failure_of(tables_at(f"http://127.0.0.1:{port}/acc", clock)) == (
        f"Table Storage at 127.0.0.1:{port} refused the connection: is Azurite running?"
    )
    assert time.monotonic() - began < 2
    assert clock.slept == []


def test_error_names_the_host_when_it_is_unknown(clock: Clock) -> None:
    assert failure_of(tables_at("https://acc.table.core.invalid", clock)) == (
        "Table Storage at acc.table.core.invalid cannot be found: there is no host of that name"
    )


class LateClock(Clock):
    """A clock that advances 15 seconds per reading, so that a step is one try of one second."""

    def monotonic(self) -> float:
        self.pass_s(15)
        return super().monotonic()


def test_timeout_is_named_when_storage_does_not_accept_the_connection() -> None:
    began = time.monotonic()
    with unaccepting() as port:
        assert failure_of(tables_at(f"http://127.0.0.1:{port}/acc", LateClock())) == (
            f"Table Storage at 127.0.0.1:{port} did not accept the connection (timed out)"
        )
    assert time.monotonic() - began < 5


def test_timeout_is_named_when_storage_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert failure_of(tables_at(f"http://127.0.0.1:{port}/acc", LateClock())) == (
            f"Table Storage at 127.0.0.1:{port} did not answer (timed out)"
        )


def test_last_try_ends_with_the_step_when_storage_is_silent(azurite: Azurite, clock: Clock) -> None:
    """Every try has the remaining time of the step as its timeout, but at least a second."""
    seen: list[tuple[float, float]] = []

    class Client(TableClient):
        def get_entity(self, *_keys: str, **options: float) -> object:  # type: ignore[override]
            seen.append((options["connection_timeout"], options["read_timeout"]))
            clock.pass_s(options["read_timeout"])
            raise TimeoutError

    client = Client.from_connection_string(azurite.connection_string, "Any")
    table = Table(client, clock=clock.monotonic, sleep=clock.sleep, jitter=lambda: 1.0, now=clock.now)
    with pytest.raises(StorageError, match="timed out"):
        table.get("1", "a")
    assert seen == [(5.0, 10.0), (4.75, 4.75)]


@pytest.mark.parametrize("fault", [drop, cut_head, cut_body])
def test_error_names_a_reset_when_storage_resets_the_connection(
    proxied_table: Table, proxy: TableProxy, fault: object
) -> None:
    proxied_table.put({"PartitionKey": "1", "RowKey": "a"})
    proxy.on(fault)  # type: ignore[arg-type]
    with pytest.raises(StorageError) as failure:
        proxied_table.get("1", "a")
    port = proxy.connection_string.partition("127.0.0.1:")[2].partition("/")[0]
    assert str(failure.value) in {
        f"Table Storage at 127.0.0.1:{port} closed the connection before it had answered (connection reset)",
        f"Table Storage at 127.0.0.1:{port} sent an answer that cannot be read",
    }


def test_kind_of_error_is_named_when_storage_sends_no_code(proxied_table: Table, proxy: TableProxy) -> None:
    proxy.on(lambda exchange: exchange.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b""))
    with pytest.raises(StorageError) as failure:
        proxied_table.get("1", "a")
    assert str(failure.value).endswith(" failed (HTTP 500, HttpResponseError)")


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """A server with an untrusted certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now - timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_certificate_is_named_and_tried_once_when_it_is_not_valid(clock: Clock, tls_port: int) -> None:
    assert failure_of(tables_at(f"https://127.0.0.1:{tls_port}/acc", clock)) == (
        f"Table Storage at 127.0.0.1:{tls_port} has a certificate that is not valid (TLS)"
    )
    assert clock.slept == []


def refusing(proxy: TableProxy, date: datetime) -> None:
    body = b'{"odata.error":{"code":"AuthenticationFailed","message":{"lang":"en-US","value":"No. sig=x"}}}'
    head = (
        f"HTTP/1.1 403 Forbidden\r\nDate: {format_datetime(date, usegmt=True)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    proxy.on(lambda exchange: exchange.send(head.encode(), body))


CHECK_SETTINGS = (
    "check TABLES_CONNECTION_STRING, or the role assignment behind TABLES_ENDPOINT, and that this machine's "
    "clock is right"
)
CHECK_CLOCK = "this machine's clock is wrong by 16 minutes, and only 15 are allowed: correct the clock"


@pytest.mark.filterwarnings("ignore:Testing an element:DeprecationWarning")  # a bug in the SDK
@pytest.mark.parametrize(
    ("minutes", "advice"),
    [(-16, CHECK_CLOCK), (-15, CHECK_SETTINGS), (0, CHECK_SETTINGS), (15, CHECK_SETTINGS), (16, CHECK_CLOCK)],
)
def test_error_names_the_credentials_or_the_wrong_clock_when_storage_refuses_us(
    proxied_table: Table, proxy: TableProxy, minutes: int, advice: str
) -> None:
    refusing(proxy, NOW + timedelta(minutes=minutes))
    with pytest.raises(StorageError) as failure:
        proxied_table.get("1", "a")
    assert str(failure.value).partition(" refused ")[2] == (
        f"our credentials (AuthenticationFailed): {advice}"
    )
    assert len(proxy.requests) == 1


def refusal(
    status: int,
    kind: type[HttpResponseError] = HttpResponseError,
    *,
    date: str | None = None,
    retry_after: str | None = None,
) -> HttpResponseError:
    """Return the SDK's error for an answer with this status and these headers."""
    named = {"Date": date, "Retry-After": retry_after}
    headers = {name: value for name, value in named.items() if value is not None}
    response: Any = SimpleNamespace(status_code=status, reason="No", headers=headers)
    error = kind(message="2:No.", response=response)
    error.error_code = "Odd"  # type: ignore[attr-defined]
    return error


HOST = "acc.example"
URL = "https://acc.example"
AZURITE_URL = "http://127.0.0.1:10002"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionRefusedError(), "refused the connection"),
        (socket.gaierror(), "cannot be found: there is no host of that name"),
        (ssl.SSLCertVerificationError(), "has a certificate that is not valid (TLS)"),
        (ssl.SSLError(), "could not agree on a secure connection (TLS)"),
        (ServiceRequestTimeoutError(""), "did not accept the connection (timed out)"),
        (ConnectTimeoutError(), "did not accept the connection (timed out)"),
        (ServiceResponseTimeoutError(""), "did not answer (timed out)"),
        (ReadTimeoutError(None, "", ""), "did not answer (timed out)"),  # type: ignore[arg-type]
        (TimeoutError(), "did not answer (timed out)"),
        (ConnectionResetError(), "closed the connection before it had answered (connection reset)"),
        (ProtocolError(), "closed the connection before it had answered (connection reset)"),
        (IncompleteReadError(""), "closed the connection before it had answered (connection reset)"),
        (ServiceRequestError(""), "cannot be reached"),
        (ServiceRequestError("", error=socket.gaierror()), "cannot be found: there is no host of that name"),
        (ValueError(), "sent an answer that cannot be read"),
        (refusal(200), "sent an answer that cannot be read"),
        (refusal(299), "sent an answer that cannot be read"),
        (refusal(300), "failed (HTTP 300, Odd)"),
        (refusal(409), "failed (HTTP 409, Odd)"),
        (refusal(400), "refused the request (HTTP 400, Odd)"),
        (refusal(413), "refused the request (HTTP 413, Odd)"),
        (refusal(401), f"refused our credentials (Odd): {CHECK_SETTINGS}"),
        (refusal(403), f"refused our credentials (Odd): {CHECK_SETTINGS}"),
        (
            ClientAuthenticationError("no"),
            f"refused our credentials (ClientAuthenticationError): {CHECK_SETTINGS}",
        ),
    ],
)
def test_error_has_one_sentence_for_each_cause(error: Exception, sentence: str) -> None:
    assert str(as_ours(error, HOST, URL, NOW)) == f"Table Storage at acc.example {sentence}"


@pytest.mark.parametrize("date", ["", "soon", "Sun, 01 Mar 2026 12:15:00 -0000"])
def test_clock_is_not_named_when_the_answer_does_not_show_that_it_is_wrong(date: str) -> None:
    sentence = str(as_ours(refusal(403, date=date), HOST, URL, NOW))
    assert sentence == f"Table Storage at acc.example refused our credentials (Odd): {CHECK_SETTINGS}"


def test_clock_is_named_when_the_answer_has_a_date_without_a_time_zone() -> None:
    sentence = str(as_ours(refusal(403, date="Sun, 01 Mar 2026 12:16:00 -0000"), HOST, URL, NOW))
    assert sentence == f"Table Storage at acc.example refused our credentials (Odd): {CHECK_CLOCK}"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal(404), NotThere),
        (refusal(404, TableTransactionError), EntityRefused),
        (refusal(412), ConditionFailed),
        (refusal(400), EntityRefused),
        (refusal(413), EntityRefused),
        (refusal(403), StorageError),
        (refusal(500), StorageError),
    ],
)
def test_refusal_has_the_kind_that_its_status_says(error: Exception, kind: type[StorageError]) -> None:
    assert type(as_ours(error, HOST, URL, NOW)) is kind


@pytest.mark.parametrize(("status", "is_missing"), [(400, False), (404, True)])
def test_refused_entity_is_described_by_position_and_code(status: int, *, is_missing: bool) -> None:
    refused = as_ours(refusal(status, TableTransactionError), HOST, URL, NOW)
    assert isinstance(refused, EntityRefused)
    assert (refused.index, refused.code, refused.is_missing) == (2, "Odd", is_missing)


def test_condition_failure_says_that_another_process_changed_the_entity() -> None:
    assert str(as_ours(refusal(412), HOST, URL, NOW)) == (
        "An entity in Table Storage at acc.example was changed by another process"
    )


@pytest.mark.parametrize(
    ("error", "url", "may_succeed"),
    [
        *((refusal(status), URL, True) for status in (200, 299, 408, 409, 429, 500, 502, 503, 504)),
        *((refusal(status), URL, False) for status in (300, 400, 401, 403, 404, 407, 410, 412, 413)),
        *((refusal(status), URL, False) for status in (428, 430, 499, 501, 505)),
        (refusal(503, ClientAuthenticationError), URL, False),
        (TokenMissing("RuntimeError"), URL, False),
        (ssl.SSLCertVerificationError(), URL, False),
        (ServiceRequestError("", error=ssl.SSLCertVerificationError()), URL, False),
        (ConnectionRefusedError(), AZURITE_URL, False),
        (ConnectionRefusedError(), URL, True),
        (ConnectionResetError(), AZURITE_URL, True),
        (HttpResponseError("no status"), URL, True),
    ],
)
def test_request_is_repeated_only_when_a_retry_may_succeed(
    error: Exception, url: str, *, may_succeed: bool
) -> None:
    assert is_retriable(error, url) is may_succeed


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("7", 7.0), ("0", 0.0), ("", 0.0), ("-1", 0.0), ("1.5", 0.0), ("\u00b2", 0.0), ("\u0667", 0.0)],
)
def test_wait_is_what_retry_after_says_in_whole_seconds(value: str, wait_s: float) -> None:
    assert retry_after_s(refusal(503, retry_after=value)) == wait_s


def test_wait_is_zero_when_storage_asks_for_none() -> None:
    assert retry_after_s(refusal(503)) == 0.0
    assert retry_after_s(TimeoutError()) == 0.0


def test_cause_is_found_once_when_errors_are_the_causes_of_each_other() -> None:
    one, other = OSError(), ConnectionResetError()
    one.__cause__, other.__cause__ = other, one
    assert str(as_ours(one, "acc.example", "https://acc.example", NOW)) == (
        "Table Storage at acc.example closed the connection before it had answered (connection reset)"
    )


# Opening


def unchecked(endpoint: str, prefix: str = "EdX") -> StorageSettings:
    """Return settings with an endpoint that is not https, which Azurite has and the settings refuse."""
    return StorageSettings.model_construct(connection_string=None, endpoint=endpoint, prefix=prefix)


def test_tables_are_read_and_written_when_they_are_opened_by_their_endpoint(
    azurite: Azurite, tables_prefix: str, tables: Tables
) -> None:
    parts = dict(part.split("=", 1) for part in azurite.connection_string.strip(";").split(";"))
    settings = unchecked(parts["TableEndpoint"], tables_prefix)
    credential = AzureNamedKeyCredential(parts["AccountName"], parts["AccountKey"])
    open_tables(settings, "sandbox-client", credential).account.remember_throttled(NOW)
    assert tables.account.throttled_until() == NOW


def test_proxy_of_the_environment_is_not_used(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert tables.account.throttled_until() is None


class NoIdentity:
    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        raise RuntimeError(f"http://169.254.169.254/?secret={SECRET} failed")


def test_identity_is_named_when_it_gives_no_token(clock: Clock) -> None:
    settings = StorageSettings(endpoint="https://acc.table.core.windows.net")
    tables = open_tables(settings, "client", NoIdentity(), clock=clock.monotonic, sleep=clock.sleep)
    assert failure_of(tables) == (
        "Azure's identity endpoint gave no token for Table Storage at acc.table.core.windows.net "
        "(RuntimeError): check that the managed identity of the app is switched on"
    )
    assert clock.slept == []


class Identity:
    def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        return AccessToken("t0ken", 4_102_444_800)


def test_request_has_the_token_of_the_identity() -> None:
    settings = StorageSettings(endpoint="https://acc.table.core.windows.net")
    with Mocker() as web:  # Azurite knows no identities
        web.get(ANY, status_code=404, json={"odata.error": {"code": "ResourceNotFound"}})
        assert open_tables(settings, "client", Identity()).account.throttled_until() is None
    (request,) = web.request_history
    assert request.headers["Authorization"] == "Bearer t0ken"


def test_managed_identity_is_used_when_no_credential_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", NoIdentity)
    tables = open_tables(StorageSettings(endpoint="https://acc.table.core.windows.net"), "client")
    assert "gave no token" in failure_of(tables)


def test_shared_access_signature_needs_no_account_name_and_stays_secret(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    text = f"TableEndpoint=http://127.0.0.1:{port}/acc;SharedAccessSignature=sv=2019&sig={SECRET}"
    settings = StorageSettings(connection_string=SecretStr(text))
    tables = open_tables(settings, "client", clock=clock.monotonic, sleep=clock.sleep)
    assert failure_of(tables).startswith(f"Table Storage at 127.0.0.1:{port} refused the connection")
