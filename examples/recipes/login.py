"""A login by a token that expires: the page gets 4401, and fetches a new token."""

import base64
import hashlib
import hmac
import os
import time

from gateman import Timer, Worker

worker = Worker("websocket://0.0.0.0:8282", allowed_origins=["https://example.com"])
KEY = os.environ["TOKEN_KEY"].encode()


def signature(text):
    digest = hmac.digest(KEY, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def make_token(uid, seconds):
    """Used by the program that checks the password and has the same key."""
    text = f"{uid}.{int(time.time() + seconds)}"
    return f"{text}.{signature(text)}"


def read_token(token):
    text, _, signed = token.rpartition(".")
    uid, _, expires = text.rpartition(".")
    if not hmac.compare_digest(signed.encode(), signature(text).encode()):
        return None, 0.0
    return uid, float(expires) - time.time()


@worker.on_open
def wait_for_token(connection):
    connection.session["timer"] = connection.after(10, connection.close, 4401, "no token in time")


@worker.on_message
def handle(connection, message):
    if message.startswith("token "):
        uid, seconds = read_token(message.removeprefix("token "))
        if uid is None or seconds <= 0 or connection.session.get("uid", uid) != uid:
            connection.close(4401, "the token is not valid")
            return
        Timer.delete(connection.session["timer"])
        connection.session["timer"] = connection.after(
            seconds, connection.close, 4401, "the token has expired"
        )
        connection.session["uid"] = uid
        connection.bind(uid)
        connection.send("welcome")
    elif "uid" in connection.session:
        connection.send(f"{connection.session['uid']} said {message}")


Worker.run_all()
