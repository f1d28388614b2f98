"""
Customer service: customers write to the staff; a pager on the counter shows what they write.

    pip install 'gateman[http]' fastapi
    PUSH_KEY=a-long-secret python server.py        then open http://localhost:8282/
    nc localhost 9000                              a pager: type secret-of-the-pager
    curl -H "Authorization: Bearer a-long-secret" -d "It is ready." localhost:8282/push/ann
    gateman reload server.py                       after each change of this file

Each client, page or pager, sends its token first. It gets JSON; a pager gets it as lines.
"""

import hmac
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse

from gateman import PartialResult, Worker, hub

FOLDER = Path(__file__).parent
KEY = f"Bearer {os.environ['PUSH_KEY']}"
USERS = {  # Token: uid and group. A real service has them in a database.
    "secret-of-ann": ("ann", "customers"),
    "secret-of-bob": ("bob", "customers"),
    "secret-of-sue": ("sue", "staff"),
    "secret-of-the-pager": ("pager", "staff"),
}
EVERYBODY = ["customers", "staff"]

web = FastAPI()
pages = Worker("websocket://127.0.0.1:8282", count=2, http=web, timeouts={"login": 10})
pagers = Worker("text://127.0.0.1:9000", name="pagers", timeouts={"login": 10})
rates = pages.connect("text://127.0.0.1:9001", once=True)


def count(name):
    """Add 1 to a counter that all processes share, and return it."""
    add = "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
    with closing(sqlite3.connect(FOLDER / "counters.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS counters (name PRIMARY KEY, value)")
        return database.execute(f"{add} RETURNING value", (name,)).fetchall()[0][0]


async def complete(answers):
    """Wait for what the hub answers: without a process that has just died."""
    try:
        return await answers
    except PartialResult as partial:
        return partial.value


@pages.every(10, once=True)
async def tell_who_is_online():
    online = sorted(await complete(hub.uids_of_group("customers")))
    hub.send_to_group("staff", json.dumps({"online": online}))


@pages.on_message
@pagers.on_message
async def handle(connection, message):
    try:
        if "uid" in connection.session:
            await tell(connection, **json.loads(message))
        else:
            await log_in(connection, *USERS[message])
    except (KeyError, TypeError, ValueError):
        connection.close(4400, "neither a token nor a message")


async def log_in(connection, uid, group):
    connection.bind(uid, only=True)  # Closes this user's other clients with 4409.
    connection.join(group)
    connection.session.update(uid=uid, group=group)
    connection.send(json.dumps({"welcome": uid, "visit": count("visits")}))
    await tell_who_is_online()


async def tell(connection, text, to=""):
    message = json.dumps({"from": connection.session["uid"], "text": text})
    is_staff = connection.session["group"] == "staff"
    sent = hub.send_to_uid(to, message) if is_staff else hub.send_to_group("staff", message)
    connection.send(json.dumps({"text": text, "reached": await complete(sent)}))


@pages.on_close
async def leave(connection, code, reason):
    await tell_who_is_online()


@web.get("/")
async def page():
    return FileResponse(FOLDER / "page.html")


@web.post("/push/{uid}")
async def push(uid: str, request: Request) -> int:
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), KEY.encode()):
        raise HTTPException(401)
    text = (await request.body()).decode()
    return await complete(hub.send_to_uid(uid, json.dumps({"from": "shop", "text": text})))


@rates.on_message
def spread(rates, rate):
    hub.send_to_group(EVERYBODY, json.dumps({"rate": rate}))


@pages.cron("0 9 * * MON-SAT", timezone="Europe/Berlin", once=True)
def open_shop():
    hub.send_to_group(EVERYBODY, json.dumps({"day": count("days")}))


Worker.run_all()
