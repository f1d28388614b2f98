"""A WSS service that orders its own certificate. Needs a domain, and port 443 from outside."""

from gateman import Worker

worker = Worker("wss://0.0.0.0:443", acme="example.com")


@worker.on_message
def answer(connection, message):
    connection.send("ok")


Worker.run_all()
