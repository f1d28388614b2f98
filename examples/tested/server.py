"""A chat with a login; test_server.py tests it without a port and without a process."""

from gateman import Refuse, Worker, hub

worker = Worker("websocket://127.0.0.1:8282")


@worker.on_websocket_connect
def log_in(connection, request):
    if request.query.get("token") != "secret":
        raise Refuse(401, "No such token.")


@worker.on_open
def enter(connection):
    connection.join("chat")
    connection.after(60, connection.send, "Are you still there?")


@worker.on_message
def say(connection, message):
    if not message.strip():
        raise ValueError("an empty message")
    hub.send_to_group("chat", message.strip())


if __name__ == "__main__":
    Worker.run_all()
