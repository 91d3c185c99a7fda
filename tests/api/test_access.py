import asyncio
import json
import logging
import socket
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr

from local.sandbox.tokens import SigningKey, admin_claims, mint
from shared.api.access import Access
from shared.api.signing_keys import SigningKeys, fetch_keys, signing_keys
from shared.errors import AccessUnavailable, Forbidden, Unauthenticated
from shared.network import USER_AGENT
from shared.settings import AccessSettings

ISSUER = "https://login.example/"
KEY = SigningKey("key-1")
OTHER = SigningKey("key-2")
IMPOSTOR = SigningKey("key-1")

Answer = Callable[[BaseHTTPRequestHandler], None]


class Jwks:
    """An identity provider's JWKS on loopback HTTP, and a clock."""

    def __init__(self) -> None:
        self.answer: Answer = document({"keys": [KEY.jwk()]})
        self.requests: list[str] = []
        self.time_s = 1000.0
        jwks = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                jwks.requests.append(self.path)
                jwks.answer(self)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys?p=policy"
        self.said: list[tuple[int, str]] = []
        self.keys = SigningKeys(
            self.url, clock=lambda: self.time_s, say=lambda level, line: self.said.append((level, line))
        )
        self.access = Access(settings(self.url), self.keys)


def document(value: object, status: int = 200, location: str = "") -> Answer:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if location:
            handler.send_header("Location", location)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def trickle(begin: bytes, piece: bytes) -> Answer:
    """Send pieces of an answer for ever, each before the read timeout."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.flush_headers()
        try:
            handler.wfile.write(begin)
            while True:
                handler.wfile.write(piece)
                time.sleep(0.05)
        except OSError:  # hung up on
            handler.close_connection = True

    return act


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


DOWN = document({"keys": [KEY.jwk()]}, 503)


def settings(jwks_url: str) -> AccessSettings:
    return AccessSettings(
        subscription_keys=(SecretStr("First-Key"), SecretStr("second-key")),
        issuer=ISSUER,
        audience="luminus-edx-connector",
        jwks_url=jwks_url,
    )


def bearer(key: SigningKey = KEY, header: Mapping[str, object] | None = None, **claims: object) -> str:
    return f"Bearer {mint(key, header or {}, admin_claims(ISSUER) | claims)}"


def of_length(characters: int) -> str:
    """Return a genuine Authorization header of this length; any number of spaces may precede the token."""
    header = bearer(groups="x" * 11_000)
    return header.replace(" ", " " * (characters - len(header) + 1))


def now() -> int:
    return int(time.time())


def admit(access: Access, authorization: str | None) -> None:
    asyncio.run(access.check_admin(authorization))


@pytest.fixture
def jwks() -> Iterator[Jwks]:
    jwks = Jwks()
    thread = threading.Thread(target=jwks.server.serve_forever, args=(0.01,))
    thread.start()
    yield jwks
    jwks.server.shutdown()
    thread.join()
    jwks.server.server_close()


# The subscription key


@pytest.mark.parametrize("header", ["First-Key", "second-key"])
def test_subscription_passes_when_the_key_is_any_of_ours(jwks: Jwks, header: str) -> None:
    jwks.access.check_subscription(header)


@pytest.mark.parametrize(
    "header",
    [
        *(
            None,
            "",
            " ",
            "first-key",
            "FIRST-KEY",
            " First-Key",
            "First-Key ",
            "First-Key,second-key",
            "First",
        ),
        *("First-Key\0", "Fïrst-Key", "\ud800", "First-Key\udcff", "x" * 100_000),
    ],
    ids=lambda header: ascii(header)[:20],
)
def test_subscription_is_refused_when_the_header_is_not_exactly_a_key(jwks: Jwks, header: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        jwks.access.check_subscription(header)
    assert caught.value.message == "The subscription key is missing or not valid"
    assert not caught.value.challenge
    assert jwks.requests == []


# The token


@pytest.mark.parametrize("roles", ["LumiNUS.Admin", ["LumiNUS.Admin"], ["LumiNUS.Student", "LumiNUS.Admin"]])
def test_admin_passes_when_the_role_is_the_string_or_in_the_list(jwks: Jwks, roles: object) -> None:
    admit(jwks.access, bearer(roles=roles))


@pytest.mark.parametrize(
    "authorization",
    [
        lambda: bearer(aud=["another", "luminus-edx-connector"]),
        lambda: bearer(exp=now() - 30),  # within the leeway
        lambda: bearer(nbf=now() + 30),
        lambda: bearer(exp=now() + 90.5),
        lambda: bearer(sub=None, iat=now() + 90, jti=7),
        lambda: bearer(sub=12345, iat="yesterday", jti=["a"]),
        lambda: bearer().replace("Bearer", "bearer"),
        lambda: bearer().replace(" ", "   "),
        lambda: bearer(header={"typ": None}),
        lambda: of_length(16 * 2**10),
    ],
)
def test_admin_passes_when_a_valid_token_has_an_unusual_form(
    jwks: Jwks, authorization: Callable[[], str]
) -> None:
    admit(jwks.access, authorization())


@pytest.mark.parametrize(
    "claims",
    [
        {"roles": None},
        {"roles": "LumiNUS.Student"},
        {"roles": "LumiNUS.Admin LumiNUS.Student"},
        {"roles": "LumiNUS.Administrator"},
        {"roles": "luminus.admin"},
        {"roles": ["LumiNUS.Admin.Reader"]},
        {"roles": [["LumiNUS.Admin"]]},
        {"roles": {"LumiNUS.Admin": True}},
        {"roles": True},
        {"roles": None, "role": "LumiNUS.Admin"},
        {"roles": None, "realm_access": {"roles": ["LumiNUS.Admin"]}},
    ],
)
def test_login_is_forbidden_when_it_lacks_the_role(jwks: Jwks, claims: dict[str, Any]) -> None:
    with pytest.raises(Forbidden) as caught:
        admit(jwks.access, bearer(**claims))
    assert caught.value.message == "Login user not authorized to perform this action"


def refused(access: Access, authorization: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        admit(access, authorization)
    assert caught.value.challenge
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # a library's error may quote the token
    return caught.value.message


@pytest.mark.parametrize("authorization", [None, ""])
def test_answer_asks_for_a_token_when_the_request_has_none(jwks: Jwks, authorization: str | None) -> None:
    assert refused(jwks.access, authorization) == "The request has no Bearer token"


def test_token_is_refused_when_nbf_is_in_the_future(jwks: Jwks) -> None:
    assert refused(jwks.access, bearer(nbf=now() + 90)) == "The token is not valid"


def test_token_is_refused_as_expired_when_exp_is_past_by_the_leeway(jwks: Jwks) -> None:
    assert refused(jwks.access, bearer(exp=now() - 60)) == "The token has expired"


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({}, {"exp": None}),
        ({}, {"exp": "soon"}),
        ({}, {"exp": "4102444800"}),
        ({}, {"nbf": "1"}),
        ({}, {"nbf": [1]}),
        ({}, {"exp": float("inf")}),
        ({}, {"exp": [1]}),
        ({}, {"iss": None}),
        ({}, {"iss": "https://login.example"}),
        ({}, {"iss": [ISSUER]}),
        ({}, {"aud": None}),
        ({}, {"aud": "luminus"}),
        ({}, {"aud": ["another"]}),
        ({}, {"aud": {"luminus-edx-connector": 1}}),
        ({"alg": "RS512"}, {}),
        ({"alg": "rs256"}, {}),
        ({"crit": ["exp"]}, {}),
        ({"crit": []}, {}),
        ({"crit": ["b64"], "b64": True}, {}),
        ({"b64": False}, {}),
    ],
)
def test_token_is_refused_when_header_or_claims_are_not_as_required(
    jwks: Jwks, header: dict[str, object], claims: dict[str, Any]
) -> None:
    assert refused(jwks.access, bearer(header=header, **claims)) == "The token is not valid"


def test_token_is_refused_when_another_key_signed_it_under_the_same_kid(jwks: Jwks) -> None:
    assert refused(jwks.access, bearer(IMPOSTOR)) == "The token is not valid"


def test_token_is_refused_when_its_claims_were_replaced(jwks: Jwks) -> None:
    head, _, signature = bearer(roles="LumiNUS.Student").split(".")
    claims = bearer().split(".")[1]
    assert refused(jwks.access, f"{head}.{claims}.{signature}") == "The token is not valid"


@pytest.mark.parametrize("alg", ["none", "HS256", "None", "", 256, ["RS256"]])
def test_token_is_refused_without_a_fetch_when_its_algorithm_is_not_rs256(jwks: Jwks, alg: object) -> None:
    refused(jwks.access, bearer(header={"alg": alg}))
    assert jwks.requests == []


def test_token_is_refused_when_it_is_signed_with_the_public_key_as_a_secret(jwks: Jwks) -> None:
    admit(jwks.access, bearer())  # the key is known
    refused(jwks.access, bearer(header={"alg": "HS256"}))


@pytest.mark.parametrize("kid", ["", 1, ["key-1"], {"kid": "key-1"}, True])
def test_token_is_refused_without_a_fetch_when_its_kid_is_not_a_text(jwks: Jwks, kid: object) -> None:
    refused(jwks.access, bearer(header={"kid": kid}))
    assert jwks.requests == []


@pytest.mark.parametrize("kid", ["../key-1", "http://127.0.0.1:1/keys", "key-1\0", "KEY-1", "' or 1=1 --"])
def test_token_is_refused_and_only_our_jwks_is_asked_when_its_kid_is_a_path_or_a_url(
    jwks: Jwks, kid: str
) -> None:
    refused(jwks.access, bearer(header={"kid": kid}))
    assert jwks.requests == ["/keys?p=policy"]


def test_key_is_ignored_when_it_is_in_the_header_of_the_token(jwks: Jwks) -> None:
    evil = jwks.url.replace("/keys", "/evil")
    header = {"jku": evil, "x5u": evil, "jwk": IMPOSTOR.jwk(), "x5c": ["MIIB"]}
    refused(jwks.access, bearer(IMPOSTOR, header))
    admit(jwks.access, bearer(KEY, header))
    assert jwks.requests == ["/keys?p=policy"]


@pytest.mark.parametrize(
    "authorization",
    [
        bearer()[7:],
        "Bearer",
        "Bearer ",
        f"Bearer{bearer()[7:]}",
        f"Basic {bearer()[7:]}",
        f"JWT {bearer()[7:]}",
        f" {bearer()}",
        f"{bearer()} ",
        f"{bearer()}\n",
        f"{bearer()}, {bearer()}",
        f"{bearer()},{bearer()}",
        f"Bearer {bearer()}",
        f"{bearer()}.x",
        f"{bearer()}é",
        bearer().replace(".", "..", 1),
        bearer().rsplit(".", 1)[0],
        f"{bearer().rsplit('.', 1)[0]}.",
        bearer().replace(" ", "\t"),
        bearer()[:-3],
        "Bearer a.b.c",
        "Bearer =.=.=",
        of_length(16 * 2**10 + 1),  # genuine
        "Bearer " + "x" * 10_000_000,
        "\ud800",
    ],
    ids=len,
)
def test_token_is_refused_without_a_fetch_when_the_header_is_not_one_whole_token(
    jwks: Jwks, authorization: str
) -> None:
    # A truncated signature is detected only with the key.
    asyncio.run(jwks.keys.get("key-1"))
    assert refused(jwks.access, authorization) == "The token is not valid"
    assert len(jwks.requests) == 1


@pytest.mark.parametrize(
    "text", ["[" * 9000, "[]", "null", '"x"', "{", "\\", '{"kid":' + "9" * 6000 + "}"], ids=len
)
@pytest.mark.parametrize("part", [0, 1])
def test_token_is_refused_when_a_part_of_it_is_not_a_json_object(jwks: Jwks, text: str, part: int) -> None:
    parts = bearer()[7:].split(".")[:2]
    parts[part] = urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    signed = ".".join(parts)
    signature = urlsafe_b64encode(KEY.sign("RS256", signed.encode())).rstrip(b"=").decode()
    assert refused(jwks.access, f"Bearer {signed}.{signature}") == "The token is not valid"


def test_no_key_or_token_is_in_logs_errors_or_reprs_when_a_token_is_refused(
    jwks: Jwks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    shown = [repr(jwks.access), repr(vars(jwks.access)), repr(jwks.keys)]
    tokens = [bearer(), bearer(IMPOSTOR), bearer(exp=1), bearer(header={"kid": "secret-kid"})]
    for attempt in (*tokens, "Bearer secret.secret.secret"):
        try:
            admit(jwks.access, attempt)
        except Unauthenticated as error:
            shown += [repr(error), repr(error.args)]
    text = caplog.text + "".join(shown)
    for secret in ("First-Key", "second-key", "secret", *(t.split(".")[2] for t in tokens)):
        assert secret not in text


# The signing keys


def test_jwks_is_fetched_once_when_known_keys_are_asked_for(jwks: Jwks) -> None:
    for passed_s in (0, 150, 299.9):
        jwks.time_s = 1000 + passed_s
        admit(jwks.access, bearer())
    assert jwks.requests == ["/keys?p=policy"]


def test_revoked_key_is_dropped_when_the_key_set_is_fetched_again(jwks: Jwks) -> None:
    admit(jwks.access, bearer())
    jwks.answer = document({"keys": [OTHER.jwk()]})
    jwks.time_s += 300
    assert refused(jwks.access, bearer()) == "The token is not valid"
    admit(jwks.access, bearer(OTHER))
    assert len(jwks.requests) == 2


def test_new_key_is_found_when_the_cooldown_is_over(jwks: Jwks) -> None:
    admit(jwks.access, bearer())
    jwks.answer = document({"keys": [KEY.jwk(), OTHER.jwk()]})
    jwks.time_s += 29
    refused(jwks.access, bearer(OTHER))
    assert len(jwks.requests) == 1
    jwks.time_s += 1
    admit(jwks.access, bearer(OTHER))
    assert len(jwks.requests) == 2


def unavailable(jwks: Jwks, authorization: str) -> None:
    with pytest.raises(AccessUnavailable) as caught:
        admit(jwks.access, authorization)
    assert caught.value.message == "The keys for checking tokens cannot be fetched; try again later"
    assert caught.value.__context__ is None


def greet_as_mail_server(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")


def padded(size: int) -> bytes:
    """Return a JWKS of this many bytes."""
    return json.dumps({"keys": [KEY.jwk()]}).encode().ljust(size)


FAILURES: dict[str, Answer] = {
    "503": DOWN,
    "redirect": document(b"", 302, location="/elsewhere"),
    "html": document(b"<html>Sign in</html>"),
    "empty": document(b""),
    "no keys": document({"keys": []}),
    "another shape": document({"keys": {"key-1": KEY.jwk()}}),
    "a list": document([KEY.jwk()]),
    "only junk": document({"keys": [None, 1, "x", {}, {"kid": "key-1"}]}),
    "too large": document(padded(2**20 + 1)),
    "nested deep": document(b"[" * 2**19),
    "no text": document(b"\xff\xfe\xfd"),
    "no http": greet_as_mail_server,
    "reset": reset,
}


@pytest.mark.parametrize("name", FAILURES)
def test_access_is_unavailable_when_the_jwks_cannot_be_fetched(jwks: Jwks, name: str) -> None:
    jwks.answer = FAILURES[name]
    unavailable(jwks, bearer())
    jwks.time_s += 29
    unavailable(jwks, bearer())
    assert jwks.requests == ["/keys?p=policy"]  # the cooldown holds after a failure too
    jwks.answer = document({"keys": [KEY.jwk()]})
    jwks.time_s += 1
    admit(jwks.access, bearer())


def test_access_is_unavailable_when_the_jwks_host_refuses_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/keys"
    with pytest.raises(AccessUnavailable):
        admit(Access(settings(url), SigningKeys(url)), bearer())


def test_access_is_unavailable_when_the_jwks_host_does_not_support_tls(jwks: Jwks) -> None:
    url = jwks.url.replace("http:", "https:")
    with pytest.raises(AccessUnavailable):
        admit(Access(settings(url), SigningKeys(url)), bearer())


def test_known_key_works_and_unknown_is_unavailable_when_the_jwks_is_down_for_long(jwks: Jwks) -> None:
    admit(jwks.access, bearer())
    jwks.answer = DOWN
    for _ in range(3):
        jwks.time_s += 3600
        admit(jwks.access, bearer())
        unavailable(jwks, bearer(OTHER))
    assert len(jwks.requests) == 4


@pytest.mark.parametrize(
    "slow_answer",
    [trickle(b"", b"X-More: 1\r\n"), trickle(b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")],
    ids=["headers", "body"],
)
def test_fetch_is_cancelled_when_the_jwks_is_too_slow(jwks: Jwks, slow_answer: Answer) -> None:
    jwks.answer = slow_answer
    begin = time.monotonic()
    with pytest.raises(AccessUnavailable, match=r"^The JWKS at 127\.0\.0\.1:\d+ did not answer in time$"):
        fetch_keys(jwks.url, deadline_s=0.3)
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    ("path", "asked_for"),
    [("", "/"), ("/keys", "/keys"), ("/keys?p=a&q=%20", "/keys?p=a&q=%20"), ("?p=a", "/?p=a")],
)
def test_jwks_is_requested_as_json_by_path_and_query(jwks: Jwks, path: str, asked_for: str) -> None:
    headers: list[tuple[str | None, str | None]] = []

    def look(handler: BaseHTTPRequestHandler) -> None:
        headers.append((handler.headers["Accept"], handler.headers["User-Agent"]))
        document(padded(2**20))(handler)  # as large as it may be

    jwks.answer = look
    assert list(fetch_keys(jwks.url.replace("/keys?p=policy", path))) == ["key-1"]
    assert jwks.requests == [asked_for]
    assert headers == [("application/json", USER_AGENT)]


def test_no_timer_is_left_when_the_jwks_has_been_fetched(jwks: Jwks) -> None:
    fetch_keys(jwks.url)
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    for timer in timers:
        timer.join(5)  # a cancelled one ends at once, another one with the deadline of ten seconds
    assert not any(timer.is_alive() for timer in timers)


def test_reason_is_logged_with_the_host_only_when_the_jwks_cannot_be_fetched(jwks: Jwks) -> None:
    jwks.answer = DOWN
    unavailable(jwks, bearer())
    host = f"127.0.0.1:{jwks.server.server_port}"
    assert jwks.said == [
        (logging.WARNING, f'{{"event": "jwks", "error": "The JWKS at {host} answered with status 503"}}')
    ]


def test_reason_is_logged_with_letters_of_any_script_unescaped() -> None:
    said: list[str] = []

    def fail(_url: str) -> dict[str, rsa.RSAPublicKey]:
        raise AccessUnavailable("The JWKS at 登录.example answered with status 503")

    keys = SigningKeys("http://127.0.0.1/keys", fetch=fail, say=lambda _level, line: said.append(line))
    with pytest.raises(AccessUnavailable):
        asyncio.run(keys.get("key-1"))
    assert said == ['{"event": "jwks", "error": "The JWKS at 登录.example answered with status 503"}']


REASONS = {
    "503": "answered with status 503",
    "redirect": "answered with status 302",
    "html": "sent an answer that is not a JWKS",
    "empty": "sent an answer that is not a JWKS",
    "no http": "sent an answer that is not a JWKS",
    "nested deep": "sent an answer that is not a JWKS",
    "no text": "sent an answer that is not a JWKS",
    "another shape": "sent an answer that is not a JWKS",
    "no keys": "has no key that may sign RS256 tokens",
    "only junk": "has no key that may sign RS256 tokens",
    "too large": "is larger than 1 MiB",
    "reset": "dropped the connection",
}


@pytest.mark.parametrize("name", REASONS)
def test_reason_is_named_when_the_jwks_is_not_usable(jwks: Jwks, name: str) -> None:
    jwks.answer = FAILURES[name]
    assert reason(jwks.url) == f"The JWKS at 127.0.0.1:{jwks.server.server_port} {REASONS[name]}"


def test_reason_is_named_when_there_is_no_connection(jwks: Jwks) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert (
        reason(f"http://{address}/keys?secret=x")
        == f"The JWKS at {address} cannot be reached: connection refused"
    )
    assert reason("https://login.invalid/keys?secret=x") == (
        "The JWKS at login.invalid cannot be reached: unknown host"
    )
    assert reason(jwks.url.replace("http:", "https:")).endswith(" cannot be reached: TLS failed")


def test_reason_is_named_when_the_certificate_is_not_trusted(jwks: Jwks, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    jwks.server.socket = context.wrap_socket(jwks.server.socket, server_side=True)
    assert "cannot be reached: TLS certificate not valid (self-signed certificate)" in reason(
        jwks.url.replace("http:", "https:")
    )


def self_signed(folder: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1, with its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=2))
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(private + certificate)
    return file


def reason(url: str) -> str:
    with pytest.raises(AccessUnavailable) as caught:
        fetch_keys(url)
    return caught.value.message


def test_proxy_of_the_environment_is_not_used_when_fetching(
    jwks: Jwks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):  # or a proxy would not be used for this host anyway
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert list(fetch_keys(jwks.url)) == ["key-1"]


class HangingJwks:
    """Fetches that end only when the test says so."""

    def __init__(self) -> None:
        self.keys = signing_keys(json.dumps({"keys": [KEY.jwk()]}).encode())
        self.begun = 0
        self.hangs = False
        self.may_end = threading.Event()

    def __call__(self, _url: str) -> dict[str, rsa.RSAPublicKey]:
        self.begun += 1
        if self.hangs:
            self.may_end.wait(10)
        return self.keys


def test_known_key_does_not_wait_and_one_thread_fetches_when_sixty_requests_have_unknown_keys() -> None:
    fetch, time_s = HangingJwks(), 1000.0
    keys = SigningKeys("http://127.0.0.1/keys", clock=lambda: time_s, fetch=fetch)

    async def crowd() -> tuple[float, list[bool], set[type[object]]]:
        nonlocal time_s
        assert await keys.get("key-1")
        fetch.hangs, time_s = True, time_s + 31
        waiting = [asyncio.create_task(keys.get(f"unknown-{number}")) for number in range(60)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        fetching = [thread.daemon for thread in threading.enumerate() if thread.name == "jwks"]
        assert await keys.get("key-1")
        took_s = time.monotonic() - began
        assert not any(each.done() for each in waiting)
        fetch.may_end.set()
        return took_s, fetching, {type(each) for each in await asyncio.gather(*waiting)}

    took_s, fetching, found = asyncio.run(crowd())
    assert took_s < 0.05
    assert fetching == [True]  # one thread, which does not keep the process alive
    assert found == {type(None)}
    assert fetch.begun == 2


def test_known_key_waits_at_most_a_second_when_the_key_set_is_old_and_the_jwks_hangs() -> None:
    fetch, time_s = HangingJwks(), 1000.0
    keys = SigningKeys("http://127.0.0.1/keys", clock=lambda: time_s, fetch=fetch)

    async def later() -> list[float]:
        nonlocal time_s
        await keys.get("key-1")
        fetch.hangs, time_s = True, time_s + 300
        took = []
        for _ in range(2):
            began = time.monotonic()
            assert await keys.get("key-1")
            took.append(time.monotonic() - began)
        fetch.may_end.set()
        return took

    first, second = asyncio.run(later())
    assert 0.9 < first < 2
    assert second < 0.05


def test_unknown_key_is_unavailable_when_the_fetch_does_not_end_in_time() -> None:
    fetch = HangingJwks()
    fetch.hangs = True
    with pytest.raises(AccessUnavailable):
        asyncio.run(SigningKeys("http://127.0.0.1/keys", fetch=fetch, wait_s=0.1).get("key-1"))
    fetch.may_end.set()


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"iss": "https://elsewhere.example/"}, "`iss` is not ADMIN_JWT_ISSUER"),
        ({"aud": ["elsewhere"]}, "`aud` does not contain ADMIN_JWT_AUDIENCE"),
        ({"aud": None}, "it has no `aud`"),
        ({"exp": 1}, "`exp` is past"),
        ({"exp": "4102444800"}, "`exp` is not a number"),
        ({"exp": "4102444800", "nbf": "1"}, "`exp` is not a number"),
        ({"nbf": 4102444800}, "`nbf` is in the future"),
        ({"nbf": True}, "`nbf` is not a number"),
        ({"nbf": "soon"}, "its claims cannot be read"),
    ],
)
def test_claim_and_setting_that_do_not_match_are_logged_without_the_value_when_a_token_is_refused(
    jwks: Jwks, caplog: pytest.LogCaptureFixture, claims: dict[str, Any], fault: str
) -> None:
    refused(jwks.access, bearer(**claims))
    assert caplog.messages == [f"A token was refused: {fault}"]


def test_log_names_the_setting_when_the_signature_the_kid_or_the_role_does_not_match(
    jwks: Jwks, caplog: pytest.LogCaptureFixture
) -> None:
    refused(jwks.access, bearer(IMPOSTOR))
    refused(jwks.access, bearer(OTHER))
    refused(jwks.access, bearer(header={"alg": "HS256"}))
    with pytest.raises(Forbidden):
        admit(jwks.access, bearer(roles=[]))
    assert caplog.messages == [
        "A token was refused: its signature does not match the key that its `kid` names in ADMIN_JWKS_URL",
        "A token was refused: ADMIN_JWKS_URL has no key with its `kid`",
        "A token was refused: it is not signed with RS256 or does not name its key (`kid`)",
        "A login was refused: the claim named by ADMIN_ROLE_CLAIM does not contain ADMIN_ROLE",
    ]


def test_only_rsa_signing_keys_of_the_jwks_are_used() -> None:
    private = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=2048), as_dict=True
    )
    small = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=2047).public_key(),  # noqa: S505 (to be refused)
        as_dict=True,
    )
    plain = {name: value for name, value in KEY.jwk().items() if name in {"kty", "n", "e"}}
    entries: list[object] = [
        {**plain, "kid": "plain"},
        {**KEY.jwk(), "kid": "whole"},
        {**OTHER.jwk(), "kid": "whole"},  # the first one counts
        {**private, "kid": "private"},
        {**small, "kid": "small"},
        {**plain, "kid": "encryption", "use": "enc"},
        {**plain, "kid": "RS512", "alg": "RS512"},
        {**plain, "kid": 1},
        {**plain, "kid": ""},
        plain,
        {**plain, "kid": "number", "n": 5},
        {**plain, "kid": "even", "e": "Ag"},
        {**plain, "kid": "no modulus", "n": None},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "EC", "crv": "P-256", "kid": "EC"},
        None,
        [],
    ]
    keys = signing_keys(json.dumps({"keys": entries}).encode())
    assert sorted(keys) == ["plain", "whole"]
    assert RSAAlgorithm.to_jwk(keys["whole"], as_dict=True)["n"] == KEY.jwk()["n"]
