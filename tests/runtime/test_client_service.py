"""How the connections of SDK clients end."""

from typing import Any

import pytest

from gateman import Connection
from tests.support.client_talk import service
from tests.support.loop import on_loop


@on_loop
async def test_the_ends_of_connections_are_of_the_protocol(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A drain and a stop are ends after which SDKs come back; a wrong frame is none."""

    def on_rpc(connection: Connection, _method: str, data: Any) -> None:
        connection.close(*data)

    async with service(on_rpc) as client:
        for given, wanted in (
            ([1012, "service restart"], (3001, "service restart")),
            ([1008, ""], (3507, "permission denied")),
            ([4001, "mine"], (4001, "mine")),
        ):
            ann = await client()
            await ann.send(rpc={"method": "close", "data": given})
            assert await ann.closed() == wanted
        bob = await client()
        await bob.send(connect={})
        assert await bob.closed() == (3501, "bad request")
    assert caplog.messages[-1].endswith(
        " is closed with 3501: it sent what is not a command of the client protocol; clients"
        " without an SDK need a worker without client_protocol, and SDKs have to speak version 2 of"
        " the protocol, as centrifuge for JavaScript does from 3.0 on"
    )
