"""Names what a server speaks that is not HTTP/1, by the first bytes that it sends. PURE."""

import re

_PROTOCOLS = (
    (rb"SSH-", "SSH"),
    (rb"220[ -].*(?:(?i:FTP|FileZilla))", "FTP"),
    (rb"220[ -]", "SMTP (mail)"),
    (rb"\* OK", "IMAP (mail)"),
    (rb"\+OK", "POP3 (mail), or Redis"),
    (rb".{3}\0(\x0a\d+\.\d|\xff)", "MySQL"),
    (rb"E\0\0\0|[NS]$", "PostgreSQL"),
    (rb"-(?:ERR|DENIED|NOAUTH)", "Redis"),
    (rb"INFO \{", "NATS"),
    (rb"AMQP", "AMQP (RabbitMQ)"),
    (rb"RFB \d", "VNC"),
    (rb"\x03\0\0", "RDP"),
    (rb"ERROR\r\n", "memcached"),
    (rb"RTSP/|SIP/", "RTSP or SIP"),
    (rb"PROXY |\r\n\r\n\0\r\nQUIT\n", "the PROXY protocol, as a client"),
    (rb"\xff[\xfb-\xfe]", "telnet"),
    (rb"\x05.", "SOCKS"),
)


def protocol(data: bytes) -> str:
    """Name the protocol that begins with these bytes; empty for an unknown one."""
    return next((name for pattern, name in _PROTOCOLS if re.match(pattern, data, re.DOTALL)), "")


def is_http2(data: bytes) -> bool:
    """Return whether these are the first bytes of a server of HTTP/2: SETTINGS, or GOAWAY."""
    return len(data) >= 9 and data[0] == 0 and data[3] in {4, 7} and not data[5]


def is_tls(data: bytes) -> bool:
    """Return whether these are the first bytes of a TLS record: an alert, or a handshake."""
    return len(data) >= 2 and data[0] in {21, 22} and data[1] == 3
