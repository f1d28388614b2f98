"""The application of ``bench/http_requests.py``, in gateman or in uvicorn alone: plain ASGI."""

from collections.abc import Awaitable, Callable
from typing import Any

import command_line

BODY = b"hello, world"


async def application(
    scope: dict[str, Any],
    _receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer with a short text."""
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--in", dest="server", default="gateman", help="gateman, asyncio or uvloop")
    arguments = parser.parse_args()
    if arguments.server == "gateman":
        # Imported here: uvicorn alone is measured without gateman.
        from gateman import Worker

        Worker(**command_line.listening(arguments), http=application)
        Worker.run_all()
        return
    import uvicorn

    uvicorn.run(
        application,
        host="127.0.0.1",
        port=arguments.port,
        loop=arguments.server,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        ssl_certfile=arguments.certificate,
        ssl_keyfile=arguments.certificate,
    )


if __name__ == "__main__":
    main()
