"""The same service behind Nginx or Apache, which do the TLS: see docs/proxy.md."""

from gateman import Worker

worker = Worker("websocket://127.0.0.1:8282")


@worker.on_message
def answer(connection, message):
    connection.send("ok")


Worker.run_all()
