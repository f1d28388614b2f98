"""Data that clients send and get: JSON text, or any bytes from and to Protobuf clients. PURE."""

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


def one_line_of_json(data: bytes) -> bytes | None:
    """
    Return data of a Protobuf client as JSON text on one line; None if they are not JSON.

    SDKs that have Protobuf alone send JSON as bytes, which are to reach JSON clients. A line that
    ended within the text would end the reply there.
    """
    try:
        # Texts in JSON that is only skipped may be anything.
        data.decode()
        text = bytes(msgspec.json.decode(data, type=msgspec.Raw))
        return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def read_json(text: bytes) -> Any:
    """Return the value of JSON text; ValueError if it is not JSON, or nothing that Python has."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"the data are not JSON that can be read ({error})") from None


def read_data(data: bytes) -> Any:
    """
    Return what the application gets for a client's data; None for none.

    Those of a Protobuf client that are not JSON remain bytes, and so does a number of a JSON client
    that Python does not have, such as 1e999.
    """
    if not data:
        return None
    try:
        return read_json(data)
    except ValueError:
        return data
