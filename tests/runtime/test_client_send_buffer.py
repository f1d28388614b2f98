"""What SDK clients get of what the application sends."""

from typing import Any

from gateman import Connection, hub
from tests.support.client_talk import service
from tests.support.loop import on_loop


@on_loop
async def test_the_hub_reaches_clients_users_and_channels() -> None:
    """With JSON values; a text is a JSON string. Bytes cannot be sent to clients of JSON."""

    def on_client_connect(connection: Connection, _token: str, _data: Any) -> None:
        connection.bind("ann")
        connection.join("news")

    async with service(on_client_connect) as client:
        ann = await client()
        assert await hub.send_to_group("news", {"n": 1}) == 1
        assert await hub.send_to_group("news", "text") == 1
        assert await hub.send_to_uid("ann", [1, None, True]) == 1
        await hub.send_to_client(ann.hello["connect"]["client"], {"to": "you"})
        assert await hub.send_to_all("all") == 1
        # Counted for nobody, as JSON has no bytes.
        assert await hub.send_to_all(b"\x00") == 0
        await hub.send_to_all(2.5)

        found = [await ann.push() for _ in range(6)]
        news = [one["pub"]["data"] for one in found if one.get("channel") == "news"]
        own = [one["pub"] for one in found if one.get("channel") == "#ann"]
        messages = [one["message"]["data"] for one in found if "message" in one]
        assert news == [{"n": 1}, "text"]
        assert [one["data"] for one in own] == [[1, None, True]]
        assert own[0]["offset"] > 0
        assert hub.counts["binary_to_json_client"] == 1
        assert messages == [{"to": "you"}, "all", 2.5]
