"""The official SDK in Chromium, as a page loads it, in JSON and in Protobuf."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Chromium
from tests.support.sdk import PageDriver, SdkError, need_packages
from tests.support.sdk_service import sdk_service


@pytest.fixture(scope="module")
def page() -> Iterator[PageDriver]:
    """Open a page with both builds of the SDK."""
    need_packages()
    if missing := Chromium.missing():
        pytest.skip(missing)
    with Chromium() as browser:
        yield PageDriver(browser)


@pytest.mark.parametrize("is_protobuf", [False, True], ids=["json", "protobuf"])
def test_its_features(page: PageDriver, tmp_path: Path, *, is_protobuf: bool) -> None:
    """Everything that a page may do, and a connection that breaks."""
    with sdk_service(tmp_path) as service:
        ann = page.client(service.url, protobuf=is_protobuf, data={"uid": "ann", "info": {"a": 1}})
        bob = page.client(service.url, protobuf=is_protobuf, data={"join": ["group"]})
        ann_id = ann.connect()["id"]
        bob.connect()
        bob.take("subscribed", channel="group", server=True)
        ann.subscribe("kept:1")
        ann.subscribe("seen:1")
        bob.subscribe("kept:1")
        ann.do("publish", channel="kept:1", data={"text": "é"})
        told = bob.take("publication", channel="kept:1")
        there = bob.do("presence_stats", channel="all:1")
        presence = ann.do("presence", channel="seen:1")
        ann.do("send", data=["sent"])
        ann.do("rpc", method="group", data=["group", 7])
        with pytest.raises(SdkError) as refused:
            ann.do("publish", channel="mute:1", data=1)
        bob.begin("rpc", method="cut", data=None)
        bob.take("connecting", code=1)
        ann.do("publish", channel="kept:1", data="missed")
        history = ann.do("history", channel="kept:1", limit=9)["publications"]

        assert (told["data"], told["info"]["user"]) == ({"text": "é"}, "ann")
        assert told["info"]["conn_info"] == {"a": 1}
        assert there == {"clients": 0, "users": 0}
        assert [*presence] == [ann_id]
        assert ann.take("message")["data"] == ["sent"]
        assert bob.take("publication", channel="group")["data"] == 7
        assert refused.value.code == 103
        assert bob.take("publication", channel="kept:1")["data"] == "missed"
        assert [one["data"] for one in history] == [{"text": "é"}, "missed"]
        ann.begin("rpc", method="end", data=[4500, "enough"])
        ann.take("disconnected", code=4500, reason="enough")
