"""A replacement for the Azure Functions host, for machines without Core Tools."""

from local.host.host import Host

__all__ = ["Host"]
