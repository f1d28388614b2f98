"""A chat for official SDKs: with history, who is here, and nothing lost by a reconnect."""

from gateman import Channel, Worker

worker = Worker("websocket://127.0.0.1:8282", client_protocol="centrifuge")
worker.channels = {
    "chat:*": Channel(
        subscribe=True,
        publish=True,
        history="everyone",
        history_size=100,
        history_ttl=3600,
        presence=True,
        join_leave=True,
    )
}

Worker.run_all()
