"""The edX connector for LumiNUS; docs/architecture.md says what is where."""

__version__ = "0.2.0"
