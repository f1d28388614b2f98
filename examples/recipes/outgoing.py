"""An outgoing connection: one process follows a feed, and all clients get its messages."""

from gateman import Worker, hub

worker = Worker("websocket://0.0.0.0:8282", count=2)
feed = worker.connect("text://127.0.0.1:9001", once=True)


@feed.on_message
def spread(feed, line):
    hub.send_to_all(line)


Worker.run_all()
