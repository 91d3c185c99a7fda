"""Admin tokens for local use: an RSA key, its JWKS, and a mint that signs any claims.

The mint does not use PyJWT, which refuses to create the forged tokens that tests need.
"""

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from uuid import uuid4

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "luminus-edx-connector"
ROLE = "LumiNUS.Admin"


class SigningKey:
    """An RSA key with the id under which a JWKS lists it."""

    def __init__(self, key_id: str | None = None) -> None:
        self.key_id = key_id or uuid4().hex
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwk(self) -> dict[str, object]:
        """Return the public half as a JWKS lists it."""
        jwk = RSAAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.key_id, "n": jwk["n"], "e": jwk["e"]}

    def public_pem(self) -> bytes:
        """Return the public key as PEM, with which an attacker signs an HS256 token."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, algorithm: object, signed: bytes) -> bytes:
        """Sign: nothing for `none`, HMAC with the public key for HS256, RSA for anything else."""
        if algorithm == "none":
            return b""
        if algorithm == "HS256":
            return hmac.digest(self.public_pem(), signed, hashlib.sha256)
        return self._private.sign(signed, padding.PKCS1v15(), hashes.SHA256())


@cache
def default_key() -> SigningKey:
    """Return the initial key of all sandboxes of a process, shared because generating one takes 0.25 s."""
    return SigningKey()


def mint(key: SigningKey, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    """Return a signed token; a header or claim that is None is left out."""
    header = {"alg": "RS256", "typ": "JWT", "kid": key.key_id, **header}
    signed = b".".join(_base64url(json.dumps(_known(part)).encode()) for part in (header, claims))
    return (signed + b"." + _base64url(key.sign(header["alg"], signed))).decode()


def admin_claims(issuer: str, lifetime_s: float = 3600) -> dict[str, object]:
    """Return the claims of a LumiNUS administrator."""
    now = int(time.time())
    return {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "local-admin",
        "roles": [ROLE],
        "iat": now,
        "nbf": now,
        "exp": now + int(lifetime_s),
    }


def _known(part: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in part.items() if value is not None}


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
