"""A protocol of one's own: a JSON value in each line. Devices and pages share a group."""

import json

from gateman import PacketError, Worker, hub


class JsonLines:
    def packet_size(self, data):
        return data.find(b"\n") + 1 or None

    def decode(self, packet):
        try:
            return json.loads(packet)
        except (ValueError, RecursionError):
            raise PacketError("not_json", "a line is not JSON") from None

    def encode(self, message):
        # What the hub sends is text: JSON already.
        text = message if isinstance(message, str) else json.dumps(message)
        if "\n" in text:
            raise ValueError("a line cannot contain a line break")
        return text.encode() + b"\n"


devices = Worker("tcp://0.0.0.0:8283", protocol=JsonLines, name="devices")
pages = Worker("websocket://0.0.0.0:8282", name="pages")


@devices.on_open
@pages.on_open
def join(connection):
    connection.join("all")


@devices.on_message
def report(connection, value):
    hub.send_to_group("all", json.dumps({"from": connection.remote_ip, "value": value}))


Worker.run_all()
