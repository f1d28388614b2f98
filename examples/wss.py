"""The five lines: a WSS service with TLS in the server. Needs server.pem and server.key."""

from gateman import Worker

worker = Worker(
    "websocket://0.0.0.0:8282", {"ssl": {"local_cert": "server.pem", "local_pk": "server.key"}}
)
worker.transport = "ssl"


@worker.on_message
def answer(connection, message):
    connection.send("ok")


Worker.run_all()
