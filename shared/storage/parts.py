"""Data that is larger than an entity, in parts: how they are named, split and put together. Pure."""

from shared.storage.entities import Entity

_PROPERTY_BYTES = 64 * 2**10
PART_BYTES = 10 * _PROPERTY_BYTES
"""Data of one entity: it takes 1 MiB, which Azurite counts in base64."""


def part_key(generation: str, kind: str, number: int) -> str:
    """Return the row key of one part of a published state."""
    return f"published-{generation}-{kind}-{number:04d}"


def parts_of(data: bytes) -> list[bytes]:
    """Split data into what single entities take."""
    return [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]


def part_properties(part: bytes) -> Entity:
    """Return a part of at most `PART_BYTES` as properties."""
    return {
        f"data{start // _PROPERTY_BYTES:02d}": part[start : start + _PROPERTY_BYTES]
        for start in range(0, len(part), _PROPERTY_BYTES)
    }


def part_data(entity: Entity) -> bytes:
    """Read what `part_properties` wrote; a property that is no data leaves the whole without any."""
    values = [entity[name] for name in sorted(entity) if name.startswith("data")]
    return b"".join(values) if all(isinstance(value, bytes) for value in values) else b""
