"""The edX sandbox: a loopback server that behaves as edX's Course Catalog API does, and can misbehave."""

from local.sandbox.edx import TOKEN_PATH
from local.sandbox.sandbox import Sandbox

__all__ = ["TOKEN_PATH", "Sandbox"]
