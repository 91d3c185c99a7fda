"""Splits data that is larger than an entity into named parts, and joins them again. Pure."""

from shared.storage.entities import Entity

_PROPERTY_BYTES = 64 * 2**10
PART_BYTES = 10 * _PROPERTY_BYTES
"""Bytes of data per entity: an entity holds 1 MiB, which Azurite counts in base64."""


def part_key(generation: str, kind: str, number: int) -> str:
    """Return the row key of one part of a published state."""
    return f"published-{generation}-{kind}-{number:04d}"


def parts_of(data: bytes) -> list[bytes]:
    """Split data into parts that fit an entity each."""
    return [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]


def part_properties(part: bytes) -> Entity:
    """Return a part of at most `PART_BYTES` as properties."""
    return {
        f"data{start // _PROPERTY_BYTES:02d}": part[start : start + _PROPERTY_BYTES]
        for start in range(0, len(part), _PROPERTY_BYTES)
    }


def part_data(entity: Entity) -> bytes:
    """Read what `part_properties` wrote; return no data if any property is not binary."""
    values = [entity[name] for name in sorted(entity) if name.startswith("data")]
    return b"".join(values) if all(isinstance(value, bytes) for value in values) else b""
