"""A worker to test: a chat with rooms and a login."""

from gateman import Connection, Refuse, Request, Worker, hub


def chat() -> Worker:
    worker = Worker("websocket://0.0.0.0:8282", name="chat")

    @worker.on_websocket_connect
    def log_in(connection: Connection, request: Request) -> None:
        if request.query.get("token") != "t":
            raise Refuse(401, "No such token.")
        connection.session["room"] = request.path

    @worker.on_open
    def enter(connection: Connection) -> None:
        connection.join(connection.session["room"])

    @worker.on_message
    async def say(connection: Connection, message: str) -> None:
        if message == "bug":
            raise ValueError(message)
        hub.send_to_group(connection.session["room"], f"{connection.remote_ip}: {message}")

    return worker
