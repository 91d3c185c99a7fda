"""The edX sandbox: a loopback server that behaves as edX's Course Catalog API does, and can misbehave."""

from local.sandbox.server import TOKEN_PATH, Sandbox

__all__ = ["TOKEN_PATH", "Sandbox"]
