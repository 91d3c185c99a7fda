"""Who may call: the APIM subscription key, and the administrator's token with the role in it.

Owns both checks and the identity provider's signing keys. Nothing of a key or token enters an error: what
a library says of a broken token may quote it, so errors are raised outside of `except` and carry no context.
"""

import hmac
import json
import re
import time
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Lock, Timer
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from shared.errors import AccessUnavailable, Forbidden, Unauthenticated
from shared.network import USER_AGENT, cut
from shared.settings import AccessSettings

JWKS_LIFETIME_S = 300.0
"""Age at which the key set is fetched anew, so that a revoked key stops working."""

JWKS_COOLDOWN_S = 30.0
"""Shortest time between two fetches, failed ones included: a forged `kid` cannot make us hammer the JWKS."""

JWKS_TIMEOUT_S = 5.0
"""For connecting, and for each read."""

JWKS_DEADLINE_S = 10.0
"""For the whole exchange once connected, however it trickles."""

JWKS_MAX_BYTES = 2**20
AUTHORIZATION_MAX_CHARS = 16 * 2**10
LEEWAY_S = 60.0
MIN_RSA_BITS = 2048

_BEARER = re.compile(r"bearer +([\w=-]+\.[\w=-]+\.[\w=-]+)", re.ASCII | re.IGNORECASE)

_NOT_VALID = "The token is not valid"


class SigningKeys:
    """The RSA keys of a JWKS by `kid`, fetched when a request needs them; safe to share between threads."""

    def __init__(self, jwks_url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = jwks_url
        self._clock = clock
        self._fetching = Lock()
        self._keys: dict[str, RSAPublicKey] = {}  # replaced as a whole, never changed
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    def get(self, kid: str) -> RSAPublicKey | None:
        """Return the key of that id, None when the identity provider has none.

        A known key outlives an outage of the JWKS, and never waits for a fetch that another caller makes.

        Raises:
            AccessUnavailable: the key is not known and the last fetch failed.
        """
        known = self._keys.get(kid)
        if known and self._clock() - self._fetched_at < JWKS_LIFETIME_S:
            return known
        if self._fetching.acquire(blocking=known is None):
            try:
                self._refetch()
            finally:
                self._fetching.release()
        key = self._keys.get(kid)
        if key is None and self._fetched_at < self._tried_at:
            raise AccessUnavailable(
                "The keys for checking tokens cannot be fetched; nobody is let in until then"
            )
        return key

    def _refetch(self) -> None:
        if self._clock() - self._tried_at < JWKS_COOLDOWN_S:
            return  # whoever waited for another caller's fetch comes by here, too
        keys = None
        with suppress(OSError, HTTPException, ValueError, RecursionError):  # RecursionError: JSON nested deep
            keys = signing_keys(fetch(self._url))
        self._tried_at = self._clock()
        if keys:
            self._keys, self._fetched_at = keys, self._tried_at


def fetch(url: str) -> bytes:
    """GET a small document, within 10 s and 1 MiB.

    `http.client` follows no redirect and reads no proxy or .netrc from the environment, and its socket is at
    hand from the start: PyJWKClient's fetch and requests can bound neither trickled headers nor a huge body.
    What the deadline has cut short may come back cut: it is no JSON then, so it counts as a failed fetch.

    Raises:
        OSError, HTTPException, ValueError: the document cannot be had.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
    with closing(kind(parts.hostname or "", parts.port, timeout=JWKS_TIMEOUT_S)) as connection:
        connection.connect()
        deadline = Timer(JWKS_DEADLINE_S, cut, [connection.sock])
        deadline.start()
        try:
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                body = response.read(JWKS_MAX_BYTES + 1)
        finally:
            deadline.cancel()
    if response.status != 200 or len(body) > JWKS_MAX_BYTES:  # noqa: PLR2004 (HTTP's OK)
        raise ValueError
    return body


def signing_keys(jwks: bytes) -> dict[str, RSAPublicKey]:
    """Return the keys of a JWKS that may sign RS256 tokens, by `kid` (the first of a repeated one).

    Raises:
        ValueError: this is no JWKS.
    """
    document = json.loads(jwks)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError  # noqa: TRY004 (one error for every bad document)
    keys: dict[str, RSAPublicKey] = {}
    for entry in entries:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if isinstance(kid, str) and kid and kid not in keys and (key := _rs256_key(entry)):
            keys[kid] = key
    return keys


def _rs256_key(entry: dict[str, Any]) -> RSAPublicKey | None:
    if entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
        return None
    try:
        key = RSAAlgorithm.from_jwk(entry)
    except Exception:  # noqa: BLE001 (whatever junk stands there, it is no key and the others still count)
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS else None


class Access:
    """The two checks that every call passes before anything is answered, pulled or read."""

    def __init__(self, settings: AccessSettings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys

    def check_subscription(self, header: str | None) -> None:
        """Check the `Ocp-Apim-Subscription-Key` header as received; no I/O.

        Raises:
            Unauthenticated: it is none of our keys.
        """
        given = _as_bytes(header or "")
        # A list, not any(): every key is compared, so that the time tells nothing.
        matches = [
            hmac.compare_digest(given, _as_bytes(key.get_secret_value()))
            for key in self._settings.subscription_keys
        ]
        if not any(matches):
            raise Unauthenticated("The subscription key is missing or not valid", challenge=False)

    def check_admin(self, authorization: str | None) -> None:
        """Check the `Authorization` header: a genuine token that holds the role. May fetch the JWKS.

        Raises:
            Unauthenticated: no token, or one that is expired, forged, broken or meant for others.
            Forbidden: a genuine token without the role.
            AccessUnavailable: the key that the token names cannot be had.
        """
        if not authorization:
            raise Unauthenticated("The request has no Bearer token", challenge=True)
        bearer = _BEARER.fullmatch(authorization) if len(authorization) <= AUTHORIZATION_MAX_CHARS else None
        kid = _key_id(bearer[1]) if bearer else None
        key = self._keys.get(kid) if kid else None
        if not bearer or not key:
            raise Unauthenticated(_NOT_VALID, challenge=True)
        held = self._claims(bearer[1], key).get(self._settings.role_claim)
        if held != self._settings.role and not (isinstance(held, list) and self._settings.role in held):
            raise Forbidden("Login user not authorized to perform this action")

    def _claims(self, token: str, key: RSAPublicKey) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=self._settings.issuer,
                audience=self._settings.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},  # a token without exp would pass otherwise
            )
        except jwt.ExpiredSignatureError:
            fault = "The token has expired"
        except Exception:  # noqa: BLE001 (a token is text of a stranger: however it breaks us, it is not valid)
            fault = _NOT_VALID
        raise Unauthenticated(fault, challenge=True)


def _key_id(token: str) -> str | None:
    """Return the `kid` of a token that we could accept; read nothing else that could lead us to a key."""
    try:
        header = jwt.get_unverified_header(token)
    except Exception:  # noqa: BLE001 (as above)
        return None
    kid = header.get("kid")
    # `crit` lists extensions that must be understood, and we understand none.
    usable = header.get("alg") == "RS256" and "crit" not in header and isinstance(kid, str)
    return kid if usable else None


def _as_bytes(text: str) -> bytes:
    # compare_digest takes ASCII text only; half a character is none of UTF-8's but must not raise.
    return text.encode("utf-8", "surrogatepass")
