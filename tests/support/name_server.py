"""
A small name server: ``python name_server.py ADDRESS ZONE``; the zone is JSON.

A name has a list of addresses of both kinds, or ``"SERVFAIL"``, or, for a kind, ``"silent"``; one
that is not in the zone does not exist.
"""

import json
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

_TYPES = {1: "A", 28: "AAAA"}
_NO_ERROR, _SERVER_FAILURE, _NO_SUCH_NAME = 0, 2, 3


def main(address: str, zone: dict[str, dict[str, object] | str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            question, client = server.recvfrom(4096)
            answer = _answer(question, zone)
            if answer is not None:
                server.sendto(answer, client)


def _answer(question: bytes, zone: dict[str, dict[str, object] | str]) -> bytes | None:
    labels, at = [], 12
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].decode())
        at += 1 + size
    asked = question[12 : at + 5]
    kind = _TYPES.get(int.from_bytes(question[at + 1 : at + 3]), "")
    known = zone.get(".".join(labels).lower())
    found = known.get(kind, []) if isinstance(known, dict) else []
    if found == "silent":
        return None
    code = _NO_ERROR if isinstance(known, dict) else _NO_SUCH_NAME
    if known == "SERVFAIL":
        code = _SERVER_FAILURE
    assert isinstance(found, list)
    head = question[:2] + (0x8180 | code).to_bytes(2) + b"\0\1" + len(found).to_bytes(2) + bytes(4)
    records = b"".join(
        b"\xc0\x0c"
        + question[at + 1 : at + 5]
        + (60).to_bytes(4)
        + len(packed).to_bytes(2)
        + packed
        for packed in (ip_address(one).packed for one in found)
    )
    return head + asked + records


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
