"""Attacks on the protected functions as data, so that worker and HTTP are both tested with all of them.

The name of each attack says how its request differs from a valid one. No attack may reach edX or storage.
"""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from time import time
from typing import Any

from local.sandbox import Sandbox
from local.sandbox.tokens import ROLE, SigningKey

PATH = "/ExternalLinks/edXCourseruns"
PATHS = (PATH, f"{PATH}/changes")
"""The paths that need a key and a token: each attack is tried on all of them."""

KEY = "Local-Subscription-Key-1"
_STORAGE_KEY = "bm8ga2V5IG9mIGFueSBhY2NvdW50"

Headers = Mapping[str, str | None]


@dataclass(frozen=True)
class Attack:
    """One request and the only status that it may get.

    `headers` replace the valid ones; None leaves one out.
    """

    name: str
    status: int
    headers: Callable[[Sandbox], Headers] = lambda _sandbox: {}
    query: str = ""
    method: str = "GET"

    def target(self, path: str) -> str:
        """Path and raw query."""
        return f"{path}?{self.query}" if self.query else path

    def sent_headers(self, sandbox: Sandbox) -> dict[str, str]:
        """Return all headers of the request."""
        headers = {**honest_headers(sandbox), **self.headers(sandbox)}
        return {name: value for name, value in headers.items() if value is not None}


def guarded_settings(sandbox: Sandbox) -> dict[str, str]:
    """Return settings under which the sandbox logs all requests of the app, including those to storage."""
    storage = f"AccountName=attacked;AccountKey={_STORAGE_KEY};TableEndpoint={sandbox.url}attacked;"
    return {
        **sandbox.settings(),
        "APIM_SUBSCRIPTION_KEYS": f"A-Key-That-Goes,{KEY}",
        "TABLES_CONNECTION_STRING": storage,
        "EDX_CATALOG_IDS": "1",
    }


def secrets(sandbox: Sandbox, headers: Mapping[str, str]) -> list[str]:
    """Return what no log and no answer may contain: our secrets and each part of the keys and tokens sent."""
    sent = [headers.get("Ocp-Apim-Subscription-Key", ""), *headers.get("Authorization", "").split()]
    parts = [part for text in sent for part in text.split(".") if len(part) > len("Bearer")]
    return [KEY, _STORAGE_KEY, sandbox.client_secret, *parts]


def honest_headers(sandbox: Sandbox) -> dict[str, str]:
    """Return the headers of an administrator."""
    return {"Ocp-Apim-Subscription-Key": KEY, "Authorization": f"Bearer {sandbox.mint()}"}


def _key(name: str, value: str | None, query: str = "") -> Attack:
    return Attack(f"key: {name}", 401, lambda _sandbox: {"Ocp-Apim-Subscription-Key": value}, query)


def _authorization(name: str, value: Callable[[Sandbox], str | None], status: int = 401) -> Attack:
    return Attack(f"token: {name}", status, lambda sandbox: {"Authorization": value(sandbox)})


def _token(name: str, token: Callable[[Sandbox], str], status: int = 401) -> Attack:
    return _authorization(name, lambda sandbox: f"Bearer {token(sandbox)}", status)


def _header(name: str, **header: object) -> Attack:
    return _token(name, lambda sandbox: sandbox.mint(header=header))


def _claims(name: str, status: int = 401, **claims: Any) -> Attack:
    return _token(name, lambda sandbox: sandbox.mint(**claims), status)


def _parameter(name: str, query: str, status: int = 400) -> Attack:
    return Attack(f"parameter: {name}", status, query=query)


@cache
def _impostor(key_id: str | None = None) -> SigningKey:
    return SigningKey(key_id)


def _led_astray(name: str, header: Callable[[Sandbox], dict[str, object]]) -> Attack:
    """Sign with the attacker's key, and name the location of that key in the header."""
    return _token(name, lambda sandbox: sandbox.mint(key=_impostor(), header=header(sandbox)))


def _signed(sandbox: Sandbox, header: str, payload: str) -> str:
    """Sign any two texts with the genuine key, whether they are JSON objects or not."""
    parts = b".".join(_base64url(part.encode()) for part in (header, payload))
    return b".".join((parts, _base64url(sandbox.signing_key.sign("RS256", parts)))).decode()


def _genuine_header(sandbox: Sandbox) -> str:
    return json.dumps({"alg": "RS256", "kid": sandbox.signing_key.key_id})


def _promoted(sandbox: Sandbox) -> str:
    """Replace the claims of a signed token by an administrator's."""
    header, _, signature = sandbox.mint(roles=["LumiNUS.Student"]).split(".")
    return ".".join((header, sandbox.mint().split(".")[1], signature))


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


_PRINCIPAL = b64encode(
    json.dumps({"auth_typ": "aad", "role_typ": "roles", "claims": [{"typ": "roles", "val": ROLE}]}).encode()
).decode()
_PLATFORM_HEADERS = {
    "X-MS-CLIENT-PRINCIPAL": _PRINCIPAL,
    "X-MS-CLIENT-PRINCIPAL-ID": "admin",
    "X-MS-CLIENT-PRINCIPAL-NAME": "admin@nus.edu.sg",
    "X-MS-CLIENT-PRINCIPAL-IDP": "aad",
}

ATTACKS = (
    _key("none", None),
    Attack(
        "key: none, and no token", 401, lambda _: {"Ocp-Apim-Subscription-Key": None, "Authorization": None}
    ),
    _key("empty", ""),
    _key("wrong", "another-key"),
    _key("in another case", KEY.swapcase()),
    _key("with a space inside", KEY.replace("-", " ", 1)),
    _key("with a no-break space after it", KEY + "\u00a0"),
    _key("cut short", KEY[:-1]),
    _key("with more behind it", KEY + "1"),
    _key("sent twice", f"{KEY},{KEY}"),
    _key("not ASCII", "cl\u00e9"),
    _key("of 10 kB", KEY * 400),
    _key("in the query", None, f"subscription-key={KEY}&Ocp-Apim-Subscription-Key={KEY}"),
    _authorization("none", lambda _: None),
    _authorization("empty", lambda _: ""),
    _authorization("scheme alone", lambda _: "Bearer"),
    _authorization("without a scheme", lambda sandbox: sandbox.mint()),
    _authorization("under another scheme", lambda sandbox: f"JWT {sandbox.mint()}"),
    _authorization("Basic", lambda _: "Basic YWRtaW46YWRtaW4="),
    _authorization("sent twice", lambda sandbox: ",".join([f"Bearer {sandbox.mint()}"] * 2)),
    _authorization("two in one", lambda sandbox: f"Bearer {sandbox.mint()} {sandbox.mint()}"),
    Attack("token: in the query", 401, lambda _: {"Authorization": None}, "access_token=e30.e30.e30"),
    _header("alg none", alg="none"),
    _header("alg None in mixed case", alg="nOnE"),
    _header("alg HS256, signed with the public key", alg="HS256"),
    _header("alg RS512", alg="RS512"),
    _header("alg that is no string", alg=["RS256"]),
    _header("no alg", alg=None),
    _token("unsigned", lambda sandbox: sandbox.mint().rpartition(".")[0] + "."),
    _token("two parts", lambda sandbox: sandbox.mint().rpartition(".")[0]),
    _token("four parts", lambda sandbox: sandbox.mint() + ".e30"),
    _token("another's signature", lambda sandbox: sandbox.mint(key=_impostor(sandbox.signing_key.key_id))),
    _token("other claims under a genuine signature", _promoted),
    _token("signed by an unknown key", lambda sandbox: sandbox.mint(key=_impostor())),
    _header("no kid", kid=None),
    _header("kid is a path", kid="../../../../dev/null"),
    _header("kid is a URL", kid="http://169.254.169.254/latest"),
    _header("kid is no string", kid=7),
    _header("unknown crit", crit=["b64"], b64=False),
    _led_astray("jku", lambda sandbox: {"jku": f"{sandbox.url}attacker/jwks"}),
    _led_astray(
        "jku and the genuine kid",
        lambda sandbox: {"jku": f"{sandbox.url}attacker/jwks", "kid": sandbox.signing_key.key_id},
    ),
    _led_astray("x5u", lambda sandbox: {"x5u": f"{sandbox.url}attacker/x5u"}),
    _led_astray("jwk inside", lambda _: {"jwk": _impostor().jwk()}),
    _claims("no exp", exp=None),
    _claims("expired", exp=int(time()) - 3600),
    _claims("expired beyond the leeway", exp=int(time()) - 90),
    _claims("exp is no number", exp="tomorrow"),
    _claims("exp is a list", exp=[2**40]),
    _claims("exp after the year 9999", exp=-(10**30)),
    _claims("not yet valid", nbf=int(time()) + 3600),
    _claims("nbf is no number", nbf="yesterday"),
    _claims("wrong issuer", iss="https://login.example.com/"),
    _claims("no issuer", iss=None),
    _claims("issuer in a list", iss=["https://login.example.com/"]),
    _claims("wrong audience", aud="another-api"),
    _claims("no audience", aud=None),
    _claims("list of other audiences", aud=["another-api", "luminus-edx"]),
    _claims("audience is no text", aud={"luminus-edx-connector": True}),
    _token("payload is a list", lambda sandbox: _signed(sandbox, _genuine_header(sandbox), "[]")),
    _token("payload is no JSON", lambda sandbox: _signed(sandbox, _genuine_header(sandbox), "{")),
    _token("header is a list", lambda sandbox: _signed(sandbox, "[]", "{}")),
    _token("nested 2,000 deep", lambda sandbox: _signed(sandbox, _genuine_header(sandbox), "[" * 2000)),
    _token("broken base64", lambda _: "!!!.???.***"),
    _token("not ASCII", lambda _: "\u00ff\u00fe.\u00ff.\u00ff"),
    _token("of 16 kB", lambda _: "A" * 16_000),
    _claims("no role", 403, roles=None),
    _claims("no role in the list", 403, roles=[]),
    _claims("role in another claim", 403, roles=None, role=ROLE, groups=[ROLE], scp=ROLE),
    _claims("longer role", 403, roles=[f"{ROLE}istrator"]),
    _claims("shorter role", 403, roles=["LumiNUS"]),
    _claims("role inside a text", 403, roles=f"Nobody {ROLE}"),
    _claims("role in another case", 403, roles=[ROLE.lower()]),
    _claims("role as a name in an object", 403, roles={ROLE: True}),
    _claims("role in a list of lists", 403, roles=[[ROLE]]),
    _claims("role is a number", 403, roles=1),
    Attack(
        "platform: forged principal, no token", 401, lambda _: {"Authorization": None, **_PLATFORM_HEADERS}
    ),
    Attack(
        "platform: forged principal, no role",
        403,
        lambda sandbox: {"Authorization": f"Bearer {sandbox.mint(roles=[])}", **_PLATFORM_HEADERS},
    ),
    Attack(
        "headers: many, and no token",
        401,
        lambda _: {"Authorization": None, **{f"X-Header-{number}": "x" * 100 for number in range(80)}},
    ),
    Attack(
        "order: no key, malformed parameter",
        401,
        lambda _: {"Ocp-Apim-Subscription-Key": None},
        "catalogId=x",
    ),
    Attack("order: no token, malformed parameter", 401, lambda _: {"Authorization": None}, "catalogId=x"),
    Attack(
        "order: no role, malformed parameter",
        403,
        lambda sandbox: {"Authorization": f"Bearer {sandbox.mint(roles=[])}"},
        "catalogId=x",
    ),
    _parameter("catalogId 0", "catalogId=0"),
    _parameter("catalogId below 0", "catalogId=-1"),
    _parameter("catalogId with a sign", "catalogId=%2B1"),
    _parameter("catalogId with a space", "catalogId=%201"),
    _parameter("catalogId with a leading 0", "catalogId=01"),
    _parameter("catalogId with an underscore", "catalogId=1_0"),
    _parameter("catalogId as a float", "catalogId=1.0"),
    _parameter("catalogId in other digits", "catalogId=%D9%A1"),
    _parameter("catalogId with a line feed", "catalogId=1%0A"),
    _parameter("catalogId with a NUL", "catalogId=1%00"),
    _parameter("catalogId with a path", "catalogId=1/../2"),
    _parameter("catalogId with a filter", "catalogId=1'%20or%20PartitionKey%20ne%20'"),
    _parameter("catalogId twice", "catalogId=1&catalogId=2"),
    _parameter("catalogId twice the same", "catalogId=1&catalogId=1"),
    _parameter("catalogId of 7 kB", f"catalogId={'x' * 7_000}"),
    _parameter("catalogId that is not ours", "catalogId=999999", 404),
    _parameter("catalogId of 30 digits", f"catalogId={'9' * 30}", 404),
    _parameter("catalogId of 5,000 digits", f"catalogId={'9' * 5000}", 404),
    _parameter("courserunKey with a NUL", "courserunKey=course-v1:MITx%00"),
    _parameter("courserunKey with a line feed", "courserunKey=course-v1:MITx%0Aforged%20log%20line"),
    _parameter("courserunKey with DEL", "courserunKey=%7F"),
    _parameter("courserunKey with a C1 control", "courserunKey=%C2%85"),
    _parameter("courserunKey of 256 characters", f"courserunKey={'x' * 256}"),
    _parameter("courserunKey of 7 kB", f"courserunKey={'x' * 7_000}"),
    _parameter("courserunKey twice", "courserunKey=a&courserunKey=b"),
    _parameter("catalogId in lower case", "catalogid=1"),
    *(
        Attack(f"method: {method}", 404, method=method)
        for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
    ),
)

INJECTED_RUN_KEYS = (
    "' or RowKey ne '",
    "x' or '1' eq '1",
    "lease",
    "published",
    "../../1/lease",
    "%25",
    "{key}",
    "\U0001f600",
    "x" * 255,
)
"""Well-formed run keys that no run has: an administrator who asks for one gets 404 and nothing else."""
