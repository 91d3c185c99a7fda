"""The benchmark: compares the connector with its floors and its rivals. See docs/performance.md."""
