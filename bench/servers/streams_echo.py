"""An echo of lines as a user of asyncio's streams would write it."""

import asyncio
import contextlib

import command_line

MAX_SIZE = 1 << 20  # bytes of a line


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what came, as it came; it is text."""
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            text = line.rstrip(b"\r\n").decode()
            writer.write(text.encode() + b"\n")
            await writer.drain()
    writer.close()


async def listen(port: int) -> None:
    """Listen on loopback until killed."""
    async with await asyncio.start_server(echo, "127.0.0.1", port, limit=MAX_SIZE) as server:
        await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    asyncio.run(listen(command_line.parser(__doc__).parse_args().port))


if __name__ == "__main__":
    main()
