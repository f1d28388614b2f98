"""What the doctor is told of requests to a worker with an HTTP application."""

from gateman.net.arrivals import NONCE_FIELD
from tests.support.http_application import HOST, Application, read_response
from tests.support.loop import on_loop
from tests.support.raw import handshake, request
from tests.support.server import serve

NONCE = "0123456789abcdef0123456789abcdef"
CARRIED = f"{NONCE_FIELD}: {NONCE}"


@on_loop
async def test_the_first_request_or_handshake_of_a_connection_is_remembered() -> None:
    """If it has the nonce."""
    async with serve(http=Application()) as server:
        server.service.arrivals(NONCE)
        client = await server.connect()
        await client.send(request("GET /early HTTP/1.1", HOST, CARRIED))
        assert await read_response(client) == (200, b"early")
        other = await server.connect()
        await other.send(handshake("/chat", (CARRIED,)))
        assert (await other.read_head()).status == 101
        without = await server.connect()
        await without.send(request("GET /early HTTP/1.1", HOST))
        await read_response(without)
        arrived = server.service.arrivals(NONCE)["arrivals"]

    assert [(one["path"], one["status"]) for one in arrived] == [("/early", 200), ("/chat", 101)]
