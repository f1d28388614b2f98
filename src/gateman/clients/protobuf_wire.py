"""
Protocol Buffers, as far as the client protocol needs them: Structs by a table of fields. PURE.

Wire format:
    A message is a sequence of fields: a varint tag (number << 3 | type), and a value of type 0
    (varint), 1 (8 bytes), 2 (varint length, then so many bytes) or 5 (4 bytes). A map is a repeated
    message of a key (1) and a value (2). The last value of a field counts. Unknown fields, and
    known ones of another type, are skipped.
"""

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

from msgspec import Raw, Struct

from ..errors import PacketError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# The schema is 4 deep.
_MAX_DEPTH = 10


class Kind(Enum):
    """What the value of a field is."""

    BOOL = "bool"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT63 = "int64 and uint64"
    """Not negative, and no store counts so far, for databases have signed numbers."""
    TEXT = "string"
    RAW = "bytes"


_VARINT_KINDS = {Kind.BOOL, Kind.UINT32, Kind.INT32, Kind.UINT63}


class Shape(Enum):
    ONE = "one"
    LIST = "list"
    MAP = "map"
    """With keys that are text."""


class Field(Struct, frozen=True):
    """A field of a message."""

    name: str
    type: Kind | type[Struct]
    shape: Shape = Shape.ONE


Schema = Mapping[type[Struct], Mapping[int, Field]]


def _malformed(problem: str) -> PacketError:
    return PacketError("bad_command", f"a command is malformed ({problem})")


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    number = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise _malformed("a number has more than 64 bits")
    raise _malformed("it ends within a number")


def write_varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@cache
def _fields_of_entry(kind: Kind | type[Struct]) -> Mapping[int, Field]:
    return {1: Field("key", Kind.TEXT), 2: Field("value", kind)}


class Decoder:
    """Decodes messages of one frame, which may have ``most`` fields: each takes time."""

    __slots__ = ("_data", "_left", "_schema")

    def __init__(self, schema: Schema, data: bytes, most: int) -> None:
        self._schema = schema
        self._data = data
        self._left = most

    def message(self, kind: type[Struct], at: int, end: int, depth: int = 0) -> Any:
        """Return the message between two positions."""
        if depth > _MAX_DEPTH:
            raise _malformed("it is too deep")
        return kind(**self._values(self._schema[kind], at, end, depth))

    def _values(self, fields: Mapping[int, Field], at: int, end: int, depth: int) -> dict[str, Any]:
        data = self._data
        values: dict[str, Any] = {}
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise PacketError("batch_too_big", "too many fields in a frame")
            tag, at = read_varint(data, at, end)
            wire_type = tag & 7
            field = fields.get(tag >> 3)
            if wire_type == _VARINT:
                number, at = read_varint(data, at, end)
                if field is not None and field.type in _VARINT_KINDS:
                    values[field.name] = _number(field.type, number)
                continue
            start, at = self._bounds(wire_type, at, end)
            if wire_type != _BYTES or field is None or field.type in _VARINT_KINDS:
                continue
            if field.shape is Shape.MAP:
                entry = self._entry(field.type, start, at, depth + 1)
                values.setdefault(field.name, {})[entry[0]] = entry[1]
            elif field.shape is Shape.LIST:
                values.setdefault(field.name, []).append(
                    self._value(field.type, start, at, depth + 1)
                )
            else:
                values[field.name] = self._value(field.type, start, at, depth + 1)
        return values

    def _bounds(self, wire_type: int, at: int, end: int) -> tuple[int, int]:
        """Return where a value that is not a varint begins and ends."""
        if wire_type == _BYTES:
            size, at = read_varint(self._data, at, end)
        elif wire_type == _FIXED64:
            size = 8
        elif wire_type == _FIXED32:
            size = 4
        else:
            raise _malformed(f"type {wire_type} does not exist")
        if size > end - at:
            raise _malformed("it ends within a field")
        return at, at + size

    def _value(self, kind: Kind | type[Struct], at: int, end: int, depth: int) -> Any:
        if kind is Kind.RAW:
            return Raw(self._data[at:end])
        if kind is Kind.TEXT:
            try:
                return str(self._data[at:end], "utf-8")
            except UnicodeDecodeError:
                raise _malformed("a text is not UTF-8") from None
        return self.message(kind, at, end, depth)  # type: ignore[arg-type]

    def _entry(self, kind: Kind | type[Struct], at: int, end: int, depth: int) -> tuple[str, Any]:
        """Return an entry of a map."""
        values = self._values(_fields_of_entry(kind), at, end, depth)
        missing = kind() if isinstance(kind, type) else ""
        return values.get("key", ""), values.get("value", missing)


def _number(kind: Kind, number: int) -> int | bool:
    if kind is Kind.BOOL:
        return number != 0
    if kind is Kind.UINT63:
        if number >> 63:
            raise _malformed("a number has more than 63 bits")
        return number
    # Longer ones are cut, as all implementations do.
    number &= 0xFFFFFFFF
    return number - (1 << 32) if kind is Kind.INT32 and number >> 31 else number


def encode_message(schema: Schema, message: Struct) -> bytes:
    """Make a message's bytes, in the order of its fields; what has its default is left out."""
    out: list[bytes] = []
    for number, field in schema[type(message)].items():
        value = getattr(message, field.name)
        if not value:
            # Mostly None; also False, 0, and an empty text, list or map.
            continue
        kind = field.type
        if field.shape is Shape.MAP:
            for key, one in value.items():
                out += _delimited(
                    number,
                    b"".join((*_encode(schema, 1, Kind.TEXT, key), *_encode(schema, 2, kind, one))),
                )
        elif field.shape is Shape.LIST:
            for one in value:
                out += _encode(schema, number, kind, one)
        elif kind is Kind.RAW:
            data = bytes(value)
            if data:
                out += _delimited(number, data)
        else:
            out += _encode(schema, number, kind, value)
    return b"".join(out)


def _encode(
    schema: Schema, number: int, kind: Kind | type[Struct], value: Any
) -> tuple[bytes, ...]:
    if kind in _VARINT_KINDS:
        # A negative number has 64 bits.
        return write_varint(number << 3 | _VARINT), write_varint(int(value) & (1 << 64) - 1)
    if kind is Kind.TEXT:
        return _delimited(number, value.encode())
    return _delimited(number, encode_message(schema, value))


def _delimited(number: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    return write_varint(number << 3 | _BYTES), write_varint(len(payload)), payload
