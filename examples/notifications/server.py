"""
Notifications: a user's browsers get messages from web applications.

    python server.py                                  in one terminal, and in another:
    export GATEMAN_BUS=$(gateman bus server.py)
    uvicorn with_fastapi:application                  or: python with_django.py runserver
    curl -d "" http://localhost:8000/users/ann/orders/7/ready

A client that is connected to ws://localhost:8282/?token=secret-of-ann gets the message. The web
application is a separate program: it may have any number of processes, and restart at any time.
"""

from gateman import Connection, Refuse, Request, Worker

USERS = {"secret-of-ann": "ann", "secret-of-bob": "bob"}

worker = Worker("websocket://127.0.0.1:8282", name="notifications", count=2)


@worker.on_websocket_connect
def log_in(connection: Connection, request: Request) -> None:
    """Bind the client to its user; a token of a page is as secret as a password."""
    user = USERS.get(request.query.get("token", ""))
    if user is None:
        raise Refuse(401, "No such token.")
    connection.bind(user)


Worker.run_all()
