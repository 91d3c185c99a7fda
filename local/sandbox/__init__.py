"""The edX sandbox: a loopback server that behaves like edX's Course Catalog API and simulates its faults."""

from local.sandbox.edx import TOKEN_PATH
from local.sandbox.sandbox import Sandbox

__all__ = ["TOKEN_PATH", "Sandbox"]
