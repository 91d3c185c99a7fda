"""The benchmark: the connector beside its floors and its rivals. See docs/performance.md."""
