"""
Notifications: a user's browsers are told what web applications have to say to that user.

    python server.py                                  in one terminal, and in another:
    export GATEMAN_BUS=$(gateman bus server.py)
    uvicorn with_fastapi:application                  or: python with_django.py runserver
    curl -d "" http://localhost:8000/users/ann/orders/7/ready

Who is connected to ws://localhost:8282/?token=secret-of-ann hears of it. The web application is a
program of its own: any number of its processes may run, and be restarted when they like.
"""

from gateman import Connection, Refuse, Request, Worker

USERS = {"secret-of-ann": "ann", "secret-of-bob": "bob"}

worker = Worker("websocket://127.0.0.1:8282", name="notifications", count=2)


@worker.on_websocket_connect
def log_in(connection: Connection, request: Request) -> None:
    """Say who it is that connects; a token from a page is as good as a password, and as secret."""
    user = USERS.get(request.query.get("token", ""))
    if user is None:
        raise Refuse(401, "No such token.")
    connection.bind(user)


Worker.run_all()
