"""
Request heads of real clients, byte for byte.

Those of Chromium and Firefox were sent by the browsers (156 and 153); the others are written after
published traces.
"""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455, section 1.3."""


def _head(text: str) -> bytes:
    return text.strip().replace("\n", "\r\n").encode() + b"\r\n\r\n"


CHROMIUM = _head(f"""
GET /chat?room=1 HTTP/1.1
Host: 127.0.0.1:8282
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
HeadlessChrome/156.0.0.0 Safari/537.36
Upgrade: websocket
Origin: http://127.0.0.1:8080
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
Cookie: session=abc
Sec-WebSocket-Key: {KEY}
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
Sec-WebSocket-Protocol: chat.v2, chat.v1
""")

FIREFOX = _head(f"""
GET /chat?room=1 HTTP/1.1
Host: 127.0.0.1:8282
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0
Accept: */*
Accept-Language: en-US,en;q=0.9
Accept-Encoding: gzip, deflate, br, zstd
Sec-WebSocket-Version: 13
Origin: http://127.0.0.1:8080
Sec-WebSocket-Protocol: chat.v2, chat.v1
Sec-WebSocket-Extensions: permessage-deflate
Sec-WebSocket-Key: {KEY}
Connection: Upgrade
Cookie: session=abc
Sec-Fetch-Dest: empty
Sec-Fetch-Mode: websocket
Sec-Fetch-Site: same-origin
Pragma: no-cache
Cache-Control: no-cache
Upgrade: websocket
""")

FIREFOX_OF_2024 = _head(f"""
GET /chat?room=1 HTTP/1.1
Host: 127.0.0.1:8282
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0
Accept: */*
Accept-Language: en-US,en;q=0.5
Accept-Encoding: gzip, deflate, br, zstd
Sec-WebSocket-Version: 13
Origin: http://127.0.0.1:8080
Sec-WebSocket-Protocol: chat.v2, chat.v1
Sec-WebSocket-Extensions: permessage-deflate
Sec-WebSocket-Key: {KEY}
DNT: 1
Connection: keep-alive, Upgrade
Cookie: session=abc
Sec-Fetch-Dest: empty
Sec-Fetch-Mode: websocket
Sec-Fetch-Site: same-site
Pragma: no-cache
Cache-Control: no-cache
Upgrade: websocket
""")

SAFARI = _head(f"""
GET /chat?room=1 HTTP/1.1
Host: 127.0.0.1:8282
Pragma: no-cache
Accept: */*
Sec-WebSocket-Key: {KEY}
Sec-Fetch-Site: same-site
Sec-WebSocket-Version: 13
Sec-WebSocket-Protocol: chat.v2, chat.v1
Sec-WebSocket-Extensions: permessage-deflate
Cache-Control: no-cache
Sec-Fetch-Mode: websocket
Accept-Language: en-GB,en;q=0.9
Origin: http://127.0.0.1:8080
User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like \
Gecko) Version/17.4 Safari/605.1.15
Connection: Upgrade
Accept-Encoding: gzip, deflate
Upgrade: websocket
Cookie: session=abc
Sec-Fetch-Dest: websocket
""")

WECHAT_OF_IOS = _head(f"""
GET /chat?room=1 HTTP/1.1
Host: 127.0.0.1:8282
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: {KEY}
Sec-WebSocket-Version: 13
Sec-WebSocket-Protocol: chat.v2, chat.v1
Origin: weapp://wechat-game-runtime
Cookie: session=abc
Accept: */*
Accept-Language: zh-CN,zh-Hans;q=0.9
Accept-Encoding: gzip, deflate
Cache-Control: no-cache
Pragma: no-cache
User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, \
like Gecko) Mobile/15E148 MicroMessenger/8.0.50(0x18003231) NetType/WIFI Language/zh_CN
Referer: https://servicewechat.com/wx0000000000000000/1/page-frame.html
""")

CLIENTS = {
    "Chromium": CHROMIUM,
    "Firefox": FIREFOX,
    "Firefox of 2024": FIREFOX_OF_2024,
    "Safari": SAFARI,
    "WeChat of iOS": WECHAT_OF_IOS,
}
"""By name; each asks for ``/chat?room=1`` on 127.0.0.1:8282 with a cookie and two subprotocols."""
