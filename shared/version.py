"""The version of the connector, the same as in pyproject.toml."""

__version__ = "0.2.0"
