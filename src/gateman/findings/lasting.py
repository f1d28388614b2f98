"""Kinds of findings about connections that are open, and about the pages that open them. PURE."""

from functools import partial

from . import Client, Declaration, Severity, Software, Stage, declared_in

_page = partial(Declaration, stage=Stage.PAGE)
_lasting = partial(Declaration, stage=Stage.LASTING)

_PAGES = frozenset({Client.BROWSERS, Client.WECHAT})

MIXED_CONTENT = _page(
    code="MIXED_CONTENT",
    problem="the page {page} comes over https, and a browser opens no ws:// from it",
    fix="write {suggested} in the page, and let the service be reached with TLS",
    fails_for=_PAGES,
    decided="The page that --page names, after its redirects, has the scheme https, and the URL of"
    " the WebSocket ws. Chrome and Firefox open ws:// to loopback addresses from such a page,"
    " Safari does not",
)
CSP_BLOCKS = _page(
    code="CSP_BLOCKS",
    problem="the Content-Security-Policy of the page {page} does not allow {url}: {directive}",
    fix="add {source} to connect-src",
    fixes={
        Software.NGINX: "write {source} into connect-src of `add_header Content-Security-Policy`,"
        " and reload nginx",
        Software.APACHE: "write {source} into connect-src of `Header set Content-Security-Policy`,"
        " and reload Apache",
        Software.CADDY: "write {source} into connect-src of `header Content-Security-Policy`",
        Software.HAPROXY: "write {source} into connect-src of `http-response set-header"
        " Content-Security-Policy`",
    },
    fails_for=_PAGES,
    decided="No source of connect-src, or without it of default-src, matches the URL: by the field"
    " and by meta elements of the page (Content Security Policy Level 3, section 6.7.2). A host"
    " without a scheme does not match wss on a page of https; 'self' does, for the same host",
)
PAGE_UPGRADES = _page(
    code="PAGE_UPGRADES",
    problem="the policy of the page {page} has upgrade-insecure-requests, so that the browser opens"
    " {suggested} and not ws://",
    fix="let the service be reached with TLS at that address, or remove the directive",
    fails_for=_PAGES,
    decided="The directive is in a policy of the page, and the URL of the WebSocket is ws",
)
PAGE_UNREACHABLE = _page(
    code="PAGE_UNREACHABLE",
    severity=Severity.WARNING,
    problem="the page {page} cannot be read: {how}",
    fix="give the URL under which a browser opens the page",
    fails_for=_PAGES,
    decided="No answer, or a status of 400 and above, after at most five redirects",
)
IDLE_CUT = _lasting(
    code="IDLE_CUT",
    problem="a connection on which nothing is sent is cut after {seconds:.0f} s, without a Close;"
    " {who}",
    fix="let the service ping more often than that (gateman: timeouts.ping_interval), and raise the"
    " time in the proxy",
    fixes={
        Software.NGINX: "write `proxy_read_timeout 3600s; proxy_send_timeout 3600s;` into the"
        " location of this path (without them it is 60 s) and reload nginx, and let the service"
        " ping more often (gateman: timeouts.ping_interval)",
        Software.APACHE: "raise `Timeout` (60 s by default, 300 s on Debian): it also ends silent"
        " WebSockets, and timeout= of ProxyPass does not change that; and let the service ping"
        " more often (gateman: timeouts.ping_interval)",
        Software.HAPROXY: "write `timeout tunnel 1h` into defaults or the backend, and let the"
        " service ping more often (gateman: timeouts.ping_interval)",
        Software.CADDY: "remove stream_timeout from the reverse_proxy, and let the service ping"
        " more often (gateman: timeouts.ping_interval)",
        Software.CLOUDFLARE: "let the service ping at least every 90 s (gateman:"
        " timeouts.ping_interval): Cloudflare's 100 s cannot be changed on most plans",
        Software.AWS: "raise idle_timeout.timeout_seconds of the load balancer above 60, and let"
        " the service ping more often (gateman: timeouts.ping_interval)",
    },
    decided="A connection is kept open without sending (--idle), and ends without a Close while no"
    " ping of the service came. Nginx, Apache and AWS cut after 60 s by default, Cloudflare after"
    " 100 s, HAProxy after its timeout tunnel or else its timeouts client and server",
    details="Routers and mobile networks cut as well, some after less than a minute. Pings of the"
    " service every 25 s keep all of them open.",
)
IDLE_CUTS = _lasting(
    code="IDLE_CUTS",
    problem="{count} connections in a row ended without a Close after {seconds:.1f} s without a"
    " byte",
    fix="something in front cuts silent connections: set timeouts.ping_interval below that time,"
    " and raise it there (nginx: proxy_read_timeout; Apache: Timeout; HAProxy: timeout tunnel)",
    decided="The service's log: of the connections that ended without a Close, many had the same"
    " age since their last byte",
)
PONGS_LOST = _lasting(
    code="PONGS_LOST",
    problem="the service pings, the client answers, and the service ends the connection after"
    " {seconds:.0f} s all the same: the pongs do not arrive",
    fix="let the proxy or firewall in front pass control frames on as they are; until then, let"
    " clients send a message of their own more often than the ping interval",
    decided="A connection that is kept open (--idle) gets pings, each is answered, and it ends"
    " shortly after one, or with a Close that names a ping timeout",
)
IDLE_CLOSED = _lasting(
    code="IDLE_CLOSED",
    problem="the service closes a connection on which nothing is sent after {seconds:.0f} s, with"
    " {how}",
    fix="let clients send what the service waits for (a login, a heartbeat message) before that, or"
    " raise its limit (gateman: timeouts.login)",
    decided="A connection that is kept open (--idle) ends with a Close of the service",
)
NO_PINGS = _lasting(
    code="NO_PINGS",
    severity=Severity.WARNING,
    problem="the service sends no ping within {seconds:.0f} s",
    fix="let it ping every 25 s (gateman: timeouts.ping_interval): proxies, routers and mobile"
    " networks cut connections that are silent for a minute",
    decided="A connection that is kept open for a minute or more (--idle) gets no ping and no"
    " message",
)
MESSAGE_TOO_BIG = _lasting(
    code="MESSAGE_TOO_BIG",
    problem="the service takes no message of {size} bytes: it closes with 1009 {reason!r}",
    fix="raise its limit (gateman: limits.max_message_size), or send smaller messages",
    decided="A message of that size (--size) gets a Close with 1009",
)
MESSAGE_CUT = _lasting(
    code="MESSAGE_CUT",
    severity=Severity.UNDECIDED,
    problem="a message of {size} bytes ends the connection without a Close",
    fix="look whether the service's log tells of a limit; else the proxy or firewall in front has"
    " one",
    decided="A message of that size (--size) is followed by the end of the connection, or a reset",
)
MESSAGE_UNREAD = _lasting(
    code="MESSAGE_UNREAD",
    severity=Severity.UNDECIDED,
    problem="after a message of {size} bytes, a ping gets no pong within {seconds:.0f} s",
    fix="look whether handling the message blocks the service, or whether something in front keeps"
    " it back",
    decided="A message of that size (--size) is sent, and a ping behind it gets no pong",
)
MESSAGE_REFUSED = _lasting(
    code="MESSAGE_REFUSED",
    severity=Severity.NOTE,
    problem="the service answers a message of {size} bytes with a Close, {how}",
    fix="this may be because of what the message says, which is the letter a, and not of its size",
    decided="A message of that size (--size) gets a Close with another code than 1009",
)
CONNECTIONS_LIMITED = _lasting(
    code="CONNECTIONS_LIMITED",
    problem="{opened} connections open at the same time, and the next gets {what}",
    fix="raise the limit on connections, and that on open files, of the proxy and the service",
    fixes={
        Software.NGINX: "raise worker_connections (each client takes two) and worker_rlimit_nofile,"
        " and look for limit_conn",
        Software.APACHE: "raise MaxRequestWorkers, ServerLimit and ThreadsPerChild: with mod_proxy"
        " each WebSocket takes a thread",
        Software.HAPROXY: "raise maxconn in global, the frontend and the server line",
        Software.CADDY: "raise the limit on open files of Caddy (LimitNOFILE=)",
        Software.GATEMAN: "raise limits.max_connections and limits.max_connections_per_ip, and"
        " LimitNOFILE=",
    },
    decided="So many connections are opened and kept (--connections), and a further one does not"
    " open three times in a row",
)
CONNECTIONS_LOST = _lasting(
    code="CONNECTIONS_LOST",
    problem="of {opened} connections that opened, {lost} ended while others were opened",
    fix="look for a limit on connections of one address in the proxy, the firewall and the service",
    decided="Connections that are kept (--connections) end by themselves",
)
CONNECTIONS_OF_THIS_MACHINE = _lasting(
    code="CONNECTIONS_OF_THIS_MACHINE",
    severity=Severity.NOTE,
    problem="this machine lets the doctor open {opened} connections only: {how}",
    fix="raise its limit on open files: ulimit -n",
    decided="Opening a socket fails on the side of the doctor",
    fails_for=frozenset(),
)
DECLARATIONS = declared_in(globals())
