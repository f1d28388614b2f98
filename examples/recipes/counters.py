"""Counters that all processes of a machine share, in an SQLite file."""

import functools
import sqlite3

from gateman import Worker

worker = Worker("websocket://0.0.0.0:8282", count=4)


@functools.cache
def database():
    made = sqlite3.connect("counters.db", timeout=5, isolation_level=None)
    made.execute("CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER)")
    return made


def add(name, number=1):
    # One statement: no other process can write between the read and the write.
    [row] = (
        database()
        .execute(
            "INSERT INTO counters VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value RETURNING value",
            (name, number),
        )
        .fetchall()
    )
    return row[0]


@worker.on_message
def count(connection, name):
    connection.send(str(add(name)))


Worker.run_all()
