"""Messages for users who are offline: stored until a client acknowledges them."""

import functools
import json
import sqlite3

from gateman import Worker, hub

worker = Worker("websocket://0.0.0.0:8282", count=2)
TABLE = "messages (id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT, text TEXT)"


@functools.cache
def database():
    made = sqlite3.connect("messages.db", timeout=5, isolation_level=None)
    made.execute(f"CREATE TABLE IF NOT EXISTS {TABLE}")
    return made


def packed(number, text):
    return json.dumps({"id": number, "text": text})


def send(uid, text):
    # Stored first: the message that is sent may not arrive.
    row = database().execute("INSERT INTO messages (uid, text) VALUES (?, ?)", (uid, text))
    hub.send_to_uid(uid, packed(row.lastrowid, text))


@worker.on_websocket_connect
def log_in(connection, request):
    connection.bind(request.query["uid"])  # Take it from a token: see the next recipe.


@worker.on_open
def catch_up(connection):
    uid = connection.request.query["uid"]
    kept = "SELECT id, text FROM messages WHERE uid = ? ORDER BY id"
    for number, text in database().execute(kept, (uid,)).fetchall():
        connection.send(packed(number, text))


@worker.on_message
def handle(connection, message):
    said = json.loads(message)
    if "got" in said:
        uid = connection.request.query["uid"]
        database().execute("DELETE FROM messages WHERE id = ? AND uid = ?", (said["got"], uid))
    else:
        send(said["to"], said["text"])


Worker.run_all()
