"""
permessage-deflate: what is offered, what we agree to, and the two halves of it.

    Sec-WebSocket-Extensions ── negotiate ──► Agreement ── make_inflater ──► Inflater
                                                        └─ make_deflater ──► Deflater

A compressed message is raw DEFLATE that ends with an empty stored block, less that block's
last four bytes, ``00 00 ff ff`` (RFC 7692, section 7.2.1). Nothing here trusts a size that a
peer names: the inflater stops at the byte after its limit. Options that concern us alone
(level, sizes) never appear on the wire.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from ..errors import ConfigError, ProtocolError
from ..options import fixed, option
from .close import CloseCode
from .extensions import parse_extensions

EXTENSION = "permessage-deflate"

_TAIL = b"\x00\x00\xff\xff"
_MAX_WINDOW_BITS = 15  # 32 KiB, what holds when no parameter says less (RFC 7692, 7.1.2)
_WINDOW_BITS = {str(bits): bits for bits in range(8, _MAX_WINDOW_BITS + 1)}

# Bytes of every message to which no ratio applies: the default of limits.max_message_size, so
# a page of zeros passes under the defaults and only larger limits need the second bound.
_RATIO_FREE_SIZE = 1 << 20

# RFC 7692, 7.2.3.4 allows DEFLATE's "final" bit inside a message, and each costs a new zlib
# object. Encoders that set it do so once per message or flush; no precedent gives a number.
_MAX_FINAL_BLOCKS = 16

# A new zlib object takes 3 to 4 µs, as long as zlib needs for so much JSON.
_STREAM_WORK = 512  # bytes

# Stored blocks add 5 bytes to 65535 and a flush adds 5, so honest data never comes near double
# its size; a stream of empty blocks, which would never end, does.
_MAX_EXPANSION = 2
_EXPANSION_FREE_SIZE = 1024  # bytes


@fixed("compression", "worker.compression = Deflate({name}={value})")
@dataclass(frozen=True, kw_only=True, slots=True)
class Deflate:
    """
    How messages are compressed: ``Worker(compression=Deflate())``.

    Raises:
        ConfigError: A value outside its range.

    Cost:
        Bytes per connection, measured with zlib 1.2.13, after a compressed message each way;
        before one there are none.

        ===========  ========  ========
        window_bits  deflater  inflater
        ===========  ========  ========
        9               10 KB      8 KB
        12              39 KB     12 KB
        15             254 KB     41 KB
        ===========  ========  ========

        Without takeover both are 0 between two messages. The client's half follows what the
        client offered (:func:`negotiate`): with the defaults, Chromium costs the inflater of
        12 bits and Firefox, which offers no parameter, that of 15.

    Source:
        RFC 7692, section 7.
    """

    level: int = option(
        1,
        "of 9",
        "zlib's level, 1 (fast) to 9 (small). Measured on JSON: up to 1 KiB all levels give the"
        " same size; at 16 KiB, 6 takes twice the time of 1 for 14 % fewer bytes. Precedent: nginx,"
        " 1.",
    )
    window_bits: int = option(
        12,
        "bits",
        "The window of 2**bits bytes in which repetitions are found, 9 to 15; for the client's"
        " messages too, if the client allows it. It determines zlib's memory. Precedent:"
        " websockets, 12.",
    )
    context_takeover: bool = option(
        default=False,
        unit="yes or no",
        reason="Whether a message may refer to earlier messages. Small messages get much smaller,"
        " but every connection keeps a window, and a broadcast is compressed for each member"
        " instead of once.",
    )
    min_size: int = option(
        256,
        "bytes",
        "Smaller messages are not compressed. Measured on JSON: 256 bytes shrink by 40 % in 12 µs,"
        " 100 bytes by 12 %.",
    )
    max_ratio: int | None = option(
        200,
        "bytes out per byte in",
        "The largest ratio of a client's message beyond its first MiB; a larger one closes with"
        " 1009. With None, only limits.max_message_size applies. Precedent: Apache's"
        " DeflateInflateRatioLimit, 200.",
    )
    max_inflated_per_turn: int = option(
        1 << 20,
        "bytes",
        "The data that is inflated for all clients of a worker in one iteration of the event loop,"
        " including the message that exceeds it; further messages wait for the next iteration, and"
        " other clients are served. zlib takes 1 ms for 1 MiB of zeros, 7 ms for 1 MiB of JSON. A"
        " client with less than 1 MiB in the last second may use the same amount again.",
    )
    max_inflated_per_second: int = option(
        16 << 20,
        "bytes per second",
        "The data that is inflated for one client; above it, gateman does not read from the"
        " client, so TCP makes the client wait. 16 MiB of JSON take a tenth of a second. A client"
        " may use the budget of a second at once.",
    )
    flood_ratio: int | None = option(
        100,
        "bytes out per byte in",
        "A client that stays at max_inflated_per_second for flood_seconds, with a larger ratio"
        " over that time, is closed with 1008. Real data compresses to a third or a twentieth,"
        " bombs to a thousandth. None disables it.",
    )
    flood_seconds: int = option(
        10,
        "seconds",
        "How long a client may stay at max_inflated_per_second with more than flood_ratio.",
    )

    def __post_init__(self) -> None:
        self._check("level", 1, 9)
        self._check("window_bits", 9, _MAX_WINDOW_BITS)
        if not isinstance(self.context_takeover, bool):
            raise ConfigError(
                f"Deflate.context_takeover={self.context_takeover!r} is neither True nor False"
            )
        # From 1: zlib makes nothing of an empty message after a flush (RFC 7692, 7.2.3.6).
        self._check("min_size", 1, None)
        if self.max_ratio is not None:
            self._check("max_ratio", 1, None)
        self._check("max_inflated_per_turn", 1, None)
        self._check("max_inflated_per_second", 1, None)
        if self.flood_ratio is not None:
            self._check("flood_ratio", 1, None)
        self._check("flood_seconds", 1, None)

    def _check(self, name: str, low: int, high: int | None) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if is_number and low <= value and (high is None or value <= high):
            return
        allowed = f"from {low} up" if high is None else f"from {low} to {high}"
        raise ConfigError(f"Deflate.{name}={value!r} cannot work", f"use a whole number {allowed}")


class Agreement(Struct, frozen=True, kw_only=True):
    """What a client offered and we accepted."""

    response: str  # the value of our ``Sec-WebSocket-Extensions`` header
    options: Deflate
    server_takeover: bool  # our messages may refer to those before them
    client_takeover: bool  # the client's messages may
    server_window_bits: int
    client_window_bits: int

    @property
    def shared_key(self) -> tuple[int, int, int] | None:
        """What is equal for all connections that one compressed frame serves; else ``None``."""
        if self.server_takeover:
            return None
        return self.options.level, self.server_window_bits, self.options.min_size

    def make_inflater(self) -> "Inflater":
        """Make the half that reads; one per connection."""
        return Inflater(
            window_bits=self.client_window_bits,
            context_takeover=self.client_takeover,
            max_ratio=self.options.max_ratio,
        )

    def make_deflater(self) -> "Deflater":
        """Make the half that writes; one per connection, or per :attr:`shared_key`."""
        return Deflater(
            level=self.options.level,
            window_bits=self.server_window_bits,
            context_takeover=self.server_takeover,
            min_size=self.options.min_size,
        )


def negotiate(offers: Sequence[str], options: Deflate) -> Agreement | None:
    """Choose the first offer of permessage-deflate that we can accept (RFC 7692, 5.1 and 7.1)."""
    # The response has no parameter that the offer had not. Three might be sent unasked (7.1.1.1,
    # 7.1.1.2, 7.1.2.1), but some clients fail then (erratum 4982), and we may always use less than
    # is allowed.
    for name, parameters in parse_extensions(offers):
        if name == EXTENSION and (agreement := _accept(parameters, options)) is not None:
            return agreement
    return None


def _accept(parameters: Sequence[tuple[str, str | None]], options: Deflate) -> Agreement | None:
    offered = dict(parameters)
    if len(offered) != len(parameters):
        return None
    response = [EXTENSION]
    server_takeover = options.context_takeover
    client_takeover = True
    server_window_bits = options.window_bits
    client_window_bits = _MAX_WINDOW_BITS
    for name, value in parameters:
        match name:
            case "server_no_context_takeover" if value is None:
                server_takeover = False
                response.append(name)
            case "client_no_context_takeover" if value is None:
                # 7.1.1.2: a hint that the client does without anyway; only our answer lets us
                # drop the window (7.2.2).
                client_takeover = False
                response.append(name)
            case "server_max_window_bits" if value in _WINDOW_BITS:
                server_window_bits = min(server_window_bits, _WINDOW_BITS[value])
                if server_window_bits == 8:
                    return None
                response.append(f"{name}={server_window_bits}")
            case "client_max_window_bits" if value is None or value in _WINDOW_BITS:
                limit = _MAX_WINDOW_BITS if value is None else _WINDOW_BITS[value]
                client_window_bits = min(options.window_bits, limit)
                response.append(f"{name}={client_window_bits}")
            case _:
                return None
    return Agreement(
        response="; ".join(response),
        options=options,
        server_takeover=server_takeover,
        client_takeover=client_takeover,
        server_window_bits=server_window_bits,
        client_window_bits=client_window_bits,
    )


class Inflater:
    """Decompress the messages of one client; a call holds at most twice its output."""

    __slots__ = (
        "_context_takeover",
        "_final_block_count",
        "_max_ratio",
        "_received_size",
        "_returned_size",
        "_stream",
        "_window_bits",
        "work",
    )

    def __init__(
        self,
        *,
        window_bits: int = _MAX_WINDOW_BITS,
        context_takeover: bool = True,
        max_ratio: int | None = None,
    ) -> None:
        self._window_bits = window_bits
        self._context_takeover = context_takeover
        self._max_ratio = max_ratio
        # None before the first compressed message, and between two without takeover.
        self._stream: zlib._Decompress | None = None
        # Bytes that came out, also of refused messages; a zlib object that was made counts as 512.
        self.work = 0
        self._start_message()

    def _start_message(self) -> None:
        self._received_size = 0
        self._returned_size = 0
        self._final_block_count = 0

    def inflate(
        self, payload: bytes | bytearray | memoryview, *, fin: bool, max_length: int
    ) -> bytes:
        """Decompress a frame's payload, to at most a byte beyond the bound (RFC 7692, 7.2.2, 8)."""
        limit = "limits.max_message_size"
        self._received_size += len(payload)
        whole_size = self._returned_size + max_length
        if self._received_size > _MAX_EXPANSION * whole_size + _EXPANSION_FREE_SIZE:
            raise _too_big("the compressed message does not end", limit)
        if self._max_ratio is not None:
            allowed_size = max(_RATIO_FREE_SIZE, self._max_ratio * self._received_size)
            allowed_size -= self._returned_size
            if allowed_size < max_length:
                max_length, limit = allowed_size, "Deflate.max_ratio"
        data = self._run(payload, max_length, limit)
        # No stream: the message ended with a final block and without the empty block that
        # 7.2.1 asks for, as some encoders do. The tail belongs to that block.
        if fin and self._stream is not None:
            data += self._run(_TAIL, max_length - len(data), limit)
        if not fin:
            self._returned_size += len(data)
            return data
        self._start_message()
        if not self._context_takeover:
            self._stream = None
        return data

    def _run(self, payload: bytes | bytearray | memoryview, max_length: int, limit: str) -> bytes:
        data = b""
        while payload:
            if self._stream is None:
                self._stream = zlib.decompressobj(-self._window_bits)
                self.work += _STREAM_WORK
            left = max_length - len(data)
            try:
                # One more than allowed tells "exactly" from "too much", and is never 0, which
                # zlib takes for "no limit" (that was the hole of other servers).
                chunk = self._stream.decompress(payload, left + 1)
            except zlib.error:
                raise _corrupt("the compressed data is corrupt") from None
            self.work += len(chunk)
            if len(chunk) > left:
                raise _too_big("the message is too large when decompressed", limit)
            data = data + chunk if data else chunk
            if not self._stream.eof:
                break
            # 7.2.3.4: a final block ends zlib's stream, but not the message. The next block
            # starts with an empty window, as an encoder that ended its stream does.
            payload = self._stream.unused_data
            self._stream = None
            self._final_block_count += 1
            if self._final_block_count > _MAX_FINAL_BLOCKS:
                raise _corrupt("too many final blocks")
        return data


def _corrupt(reason: str) -> ProtocolError:
    return ProtocolError(CloseCode.PROTOCOL_ERROR, reason, cause="bad_compressed_data")


def _too_big(reason: str, limit: str) -> ProtocolError:
    return ProtocolError(CloseCode.MESSAGE_TOO_BIG, reason, cause="message_too_big", limit=limit)


class Deflater:
    """Compress messages for one client, or for all with the same :attr:`Agreement.shared_key`."""

    __slots__ = ("_level", "_stream", "_window_bits", "context_takeover", "min_size")

    def __init__(
        self, *, level: int, window_bits: int, context_takeover: bool, min_size: int
    ) -> None:
        self._level = level
        self._window_bits = window_bits
        self.context_takeover = context_takeover
        self.min_size = min_size
        self._stream: zlib._Compress | None = None

    @property
    def shared_key(self) -> tuple[int, int, int] | None:
        """What is equal for all that make the same of a message; ``None`` with takeover."""
        if self.context_takeover:
            return None
        return self._level, self._window_bits, self.min_size

    def deflate(self, payload: bytes | bytearray | memoryview) -> bytes | None:
        """Compress one message (RFC 7692, section 7.2.1)."""
        if len(payload) < self.min_size:
            return None
        stream = self._stream or zlib.compressobj(
            self._level,
            zlib.DEFLATED,
            -self._window_bits,
            # zlib pairs its defaults, 15 and 8. The hash table then needs what the window does.
            self._window_bits - 7,
        )
        if self.context_takeover:
            self._stream = stream
        data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
        data = data[: -len(_TAIL)]
        if not self.context_takeover and len(data) >= len(payload):
            return None
        return data
