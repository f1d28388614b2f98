"""
Kinds of findings about proxies, the HTTP answer and the WebSocket handshake. PURE.

``{handshake}`` is "the handshake" where the doctor sent it, and "a handshake from 192.0.2.1" in the
log of a service; ``{server}`` is the software that answered.
"""

from functools import partial

from . import Client, Declaration, Severity, Software, Stage, declared_in

_tls = partial(Declaration, stage=Stage.TLS)
_proxy = partial(Declaration, stage=Stage.PROXY)
_upgrade = partial(Declaration, stage=Stage.UPGRADE)
_websocket = partial(Declaration, stage=Stage.WEBSOCKET)

_ON_THE_SERVER = "on the server, run `gateman doctor server.py {url}`"
_LIBRARIES = frozenset({Client.ANDROID, Client.IOS, Client.JAVA, Client.NODE, Client.PYTHON})
_NGINX_LINES = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;"
    ' proxy_set_header Connection "upgrade";'
)
_PRINTED = "`gateman proxy nginx` and `gateman proxy apache` print configurations that do"

UPGRADE_LOST = _proxy(
    code="UPGRADE_LOST",
    problem="{handshake} arrived at the service without '{field}'",
    fix=f"the proxy in front must pass the upgrade on; {_PRINTED}. Was it curl, over HTTP/2? Then"
    " --http1.1",
    fixes={
        Software.NGINX: f"write into the location of this path: {_NGINX_LINES} and reload nginx;"
        " `gateman proxy nginx` prints a whole configuration",
        Software.APACHE: "write upgrade=websocket at the end of the ProxyPass line of this path"
        " (Apache 2.4.47 or later), or let it lead to ws:// with mod_proxy_wstunnel, and reload"
        " Apache; `gateman proxy apache` prints a whole configuration",
        Software.CADDY: "remove header_up lines for Upgrade and Connection from the reverse_proxy"
        " of this path: it passes an upgrade on by itself; then reload Caddy",
        Software.HAPROXY: "remove `http-request del-header` lines for Upgrade and Connection, and"
        " `proto h2` from the server line: mode http passes an upgrade on by itself; then reload"
        " HAProxy",
        Software.CLOUDFLARE: "turn on WebSockets in the dashboard, under Network",
        Software.AWS: "use an Application Load Balancer with a target group of protocol version"
        " HTTP1: a Classic Load Balancer's HTTP listener does not pass an upgrade on",
    },
    decided="The doctor sends a complete handshake, and the service answers as to one that has no"
    " Upgrade or Connection field: gateman with the field Gateman-Refused, other servers with 426,"
    " or with a sentence of theirs about the missing field. RFC 9110, section 7.6.1: both are"
    " fields of one hop, which a proxy removes unless it is told otherwise",
)
HANDSHAKE_FIELD_LOST = _proxy(
    code="HANDSHAKE_FIELD_LOST",
    problem="{handshake} arrived at the service without '{field}'",
    fix="let the proxy or firewall in front pass all fields on that begin with Sec-WebSocket-; a"
    " client that sends none is not a WebSocket client",
    decided="The service says that a field of the handshake is missing that the doctor sent",
)
CLIENT_HTTP2 = _proxy(
    code="CLIENT_HTTP2",
    problem="{handshake} came to the proxy over HTTP/2 or 3, which has no upgrade that could be"
    " passed on",
    fix="have the client open it over HTTP/1.1, as browsers do (curl: --http1.1)",
    decided="A Via field of the request, or the service's own answer, says that the client spoke"
    " HTTP/2 or 3 to the proxy",
    fails_for=frozenset(),
)
HTTP2_ONLY = _proxy(
    code="HTTP2_ONLY",
    problem="the server speaks only HTTP/2 on this port, and clients open a WebSocket over"
    " HTTP/1.1",
    fix="let the server accept HTTP/1.1 on this port too (nginx: no http2 on a listen line without"
    " ssl; Apache: Protocols h2 http/1.1; HAProxy: alpn h2,http/1.1; a gRPC server cannot)",
    fixes={
        Software.NGINX: "remove http2 from the listen line of a port without TLS; on one with TLS,"
        " leave `http2 on` and do not limit ALPN to h2",
        Software.APACHE: "write `Protocols h2 http/1.1` in place of `Protocols h2` or `h2c`",
        Software.CADDY: "write `protocols h1 h2 h3` in the global `servers` block",
        Software.HAPROXY: "write `alpn h2,http/1.1` on the bind line, and no `proto h2`",
    },
    decided="The server answers with a frame of HTTP/2 though http/1.1 was offered by ALPN, or ends"
    " TLS with the alert no_application_protocol",
)
UPGRADE_HTTP_1_0 = _proxy(
    code="UPGRADE_HTTP_1_0",
    problem="{handshake} arrived at the service as HTTP/1.0",
    fix=f"the proxy in front must speak HTTP/1.1 (nginx: proxy_http_version 1.1); {_PRINTED}",
    fixes={
        Software.NGINX: f"write into the location of this path: {_NGINX_LINES} and reload nginx",
        Software.APACHE: "remove `SetEnv force-proxy-request-1.0` and `proxy-nokeepalive` for this"
        " path, and reload Apache",
    },
    decided="The service answers 505, or 426 as Envoy does; the doctor sent HTTP/1.1",
)
PEER_SPOKE_TLS = _tls(
    code="PEER_SPOKE_TLS",
    problem="{client} spoke TLS to this plain port",
    fix="if that is a proxy, have it speak plain HTTP (nginx: proxy_pass http://, not https://;"
    " HAProxy: a server line without ssl); if it is a client, connect with ws://, or give the"
    " worker a certificate and transport='ssl'",
    fixes={
        Software.NGINX: "write `proxy_pass http://` in place of https://, and reload nginx",
        Software.APACHE: "write http:// in place of https:// in the ProxyPass line, and reload"
        " Apache",
        Software.HAPROXY: "remove ssl from the server line, and reload HAProxy",
        Software.CADDY: "write `reverse_proxy http://…`, and reload Caddy",
    },
    decided="The service's log: the first bytes of the connection are a ClientHello, and the port"
    " is plain",
)
PEER_SPOKE_PLAIN = _tls(
    code="PEER_SPOKE_PLAIN",
    problem="{client} spoke plain HTTP or ws:// to this TLS port",
    fix="it must connect with wss:// (or https://); if a proxy in front does the TLS, leave out"
    " transport='ssl'",
    decided="The service's log: the first bytes of the connection are HTTP, and the port speaks"
    " TLS",
)
PROXY_HEADER_UNEXPECTED = _proxy(
    code="PROXY_HEADER_UNEXPECTED",
    problem="a connection begins with a PROXY header, and proxy_protocol='off'",
    fix="set it to 'required', or let the proxy send none (HAProxy: no send-proxy)",
    fixes={
        Software.NGINX: "set proxy_protocol='required' at the worker, or remove `proxy_protocol on`"
        " from nginx",
        Software.HAPROXY: "set proxy_protocol='required' at the worker, or remove send-proxy from"
        " the server line",
        Software.AWS: "set proxy_protocol='required' at the worker, or turn off proxy protocol v2"
        " in the target group's attributes",
    },
    decided="gateman answers 400 with Gateman-Refused: PROXY_HEADER_UNEXPECTED",
)
PATH_NOT_FOUND = _upgrade(
    code="PATH_NOT_FOUND",
    problem="{server} has nothing at the path {path}: it answers {status}",
    fix="connect to the path that leads to the service, or let this path lead to it",
    fixes={
        Software.NGINX: "connect to the path of the location that has proxy_pass, or add `location"
        " {path} {{ proxy_pass http://127.0.0.1:8282; … }}` to the server block of this name;"
        " `gateman proxy nginx --path {path}` prints it",
        Software.APACHE: "connect to the path of the ProxyPass line, or add `ProxyPass {path}"
        " http://127.0.0.1:8282{path} upgrade=websocket` to the virtual host of this name;"
        " `gateman proxy apache --path {path}` prints it",
        Software.CADDY: "connect to the path of the reverse_proxy, or add `reverse_proxy {path}*"
        " 127.0.0.1:8282` to the site of this name",
        Software.HAPROXY: "connect to the path of the ACL that selects the service's backend, or"
        " add `use_backend workers if {{ path_beg {path} }}`",
    },
    decided="404 or 410, or an empty 200 of Caddy; it is the server's own page, or that of an"
    " application that names the path",
)
PATH_ELSEWHERE = _upgrade(
    code="PATH_ELSEWHERE",
    problem="a WebSocket opens at the path {other}, and not at {path}, which {server} answers with"
    " {status}",
    fix="connect to {other}, or let {path} lead to the service too",
    decided="The same handshake opens at a path that differs by a slash at its end, or at the root",
)
PAGE_ANSWERS = _upgrade(
    code="PAGE_ANSWERS",
    problem="a web page answers at the path {path}, with {status}, and not a WebSocket service",
    fix="connect to the path that leads to the service, or let the proxy pass this path on to it"
    " before the rule that serves pages",
    fixes={
        Software.NGINX: "add `location {path} {{ proxy_pass http://127.0.0.1:8282; … }}` beside the"
        " `location /` that serves the page (try_files or a PHP rule); `gateman proxy nginx --path"
        " {path}` prints it",
        Software.APACHE: "write `ProxyPass {path} http://127.0.0.1:8282{path} upgrade=websocket`"
        " before the rewrite rules that serve the page (FallbackResource, .htaccess of WordPress)",
        Software.CADDY: "write `reverse_proxy {path}* 127.0.0.1:8282` in a handle block before"
        " file_server, try_files and php_fastcgi",
    },
    decided="A success with HTML, for the handshake as for a plain request: a catch-all rule, a"
    " single-page application, or PHP",
)
SUCCESS_WITHOUT_UPGRADE = _upgrade(
    code="SUCCESS_WITHOUT_UPGRADE",
    severity=Severity.UNDECIDED,
    problem="{server} answers the handshake at {path} with {status}, as a plain request",
    fix=f"look whether the path is that of the service, and whether the proxy passes Upgrade on:"
    f" {_ON_THE_SERVER}",
    decided="A success without HTML and without a word about what is missing",
)
LOGIN_PAGE = _upgrade(
    code="LOGIN_PAGE",
    problem="a login stands before the path {path}: {server} answers the handshake with {status}",
    fix="except the path of the WebSocket from the login, and let the service check the user"
    " itself; or have the page that opens it be logged in at the same site",
    fixes={
        Software.NGINX: "write `auth_request off;` into the location of this path, and let the"
        " service check the user itself",
    },
    decided="The answer is a form for a password, or leads to one",
)
AUTHENTICATION_REQUIRED = _upgrade(
    code="AUTHENTICATION_REQUIRED",
    problem="{server} asks for HTTP authentication ({scheme}) at the path {path}",
    fix="except the path of the WebSocket from it, and let the service check a token or a cookie:"
    " pages cannot send Authorization with a WebSocket",
    fixes={
        Software.NGINX: "write `auth_basic off;` into the location of this path, and let the"
        " service check a token or a cookie",
        Software.APACHE: "write `Require all granted` in a `<Location {path}>`, and let the service"
        " check a token or a cookie",
        Software.CADDY: "except the path from basic_auth with a matcher: `@site not path {path}*`",
        Software.HAPROXY: "write `http-request auth unless {{ path_beg {path} }}`",
    },
    decided="401, or 407 of a proxy of the client's own network",
)
FORBIDDEN = _upgrade(
    code="FORBIDDEN",
    problem="{server} forbids the path {path} by a rule of its own: it answers {status}",
    fix="change the rule of access for this path",
    fixes={
        Software.NGINX: "look for deny, `internal`, `return 403` and for a folder without an index"
        " in the location of {path}; error.log says which; the path may lead to files in place of"
        " the service",
        Software.APACHE: "write `Require all granted` in a `<Location {path}>`, or `<Proxy *>`;"
        " error.log says which rule it was",
        Software.CADDY: "look for `respond 403` and for matchers of addresses",
        Software.HAPROXY: "look for `http-request deny` in the frontend",
    },
    decided="403 with the page of the proxy itself, with any Origin and without one",
)
FIREWALL_REFUSED = _upgrade(
    code="FIREWALL_REFUSED",
    problem="a web application firewall ({server}) refuses the handshake with {status}",
    fix="except the path of the WebSocket from the firewall's rules",
    fixes={
        Software.CLOUDFLARE: "make a WAF exception (Skip) for this path, under Security, WAF,"
        " Custom rules; Security, Events names the rule by the Ray ID",
        Software.AWS: "add a rule to the web ACL that allows this path; the WAF's log names the"
        " rule that blocked it",
        Software.APACHE: "write `SecRuleRemoveById` for the rule that error.log names, in a"
        " `<Location {path}>`",
        Software.NGINX: "switch ModSecurity or the WAF module off in the location of this path;"
        " error.log names the rule",
    },
    decided="403, 405, 406 or 501 with the page of a firewall (ModSecurity, Cloudflare, AWS,"
    " Imperva, Akamai, Sucuri, Aliyun, Safedog …)",
)
CDN_CHALLENGE = _upgrade(
    code="CDN_CHALLENGE",
    problem="the CDN wants to see a browser solve a challenge before it passes the handshake on",
    fix="switch the challenge off for the path of the WebSocket: clients that are not a page cannot"
    " solve one, and a page only if it comes from the same host",
    fixes={
        Software.CLOUDFLARE: "add a custom rule with the action Skip for this path, under Security,"
        " WAF, and switch off Under Attack Mode and Bot Fight Mode for it",
    },
    fails_for=frozenset(Client),
    decided="The field cf-mitigated: challenge, or the page of a challenge",
)
RATE_LIMITED = _upgrade(
    code="RATE_LIMITED",
    problem="{server} limits the rate or the number of requests from this address: it answers"
    " {status}",
    fix="raise the limit for the path of the WebSocket, or wait and let clients reconnect with"
    " growing, random delays",
    fixes={
        Software.NGINX: "raise limit_req or limit_conn for the location of this path",
        Software.HAPROXY: "raise the limit of the stick table that `http-request deny deny_status"
        " 429` asks",
        Software.CLOUDFLARE: "except the path from the rate limiting rules, under Security, WAF",
        Software.GATEMAN: "raise limits.max_connections_per_ip; if the address is a proxy, add it"
        " to trusted_proxies",
    },
    decided="429; or 503 with the page of nginx itself, whose limits answer 503 by default",
)
ADDRESS_LIMIT = _upgrade(
    code="ADDRESS_LIMIT",
    problem="one address has as many connections as the service takes from one",
    fix="raise limits.max_connections_per_ip if many clients share that address; if it is a proxy,"
    " add it to trusted_proxies",
    decided="gateman answers 429 with Gateman-Refused: ADDRESS_LIMIT",
)
SERVER_FULL = _upgrade(
    code="SERVER_FULL",
    problem="the service has as many connections as it takes",
    fix="raise limits.max_connections, and the limit on open files (ulimit -n, LimitNOFILE=) with"
    " it; the log says which of both it is",
    decided="gateman answers 503 with Gateman-Refused: SERVER_FULL. Strangers are not told whether"
    " it is the option or the limit on open files; the log says it",
)
HANDSHAKE_RATE = _upgrade(
    code="HANDSHAKE_RATE",
    problem="more clients connect per second than the service takes",
    fix="raise limits.max_handshakes_per_second, and let clients reconnect with growing, random"
    " delays",
    decided="gateman answers 503 with Gateman-Refused: HANDSHAKE_RATE",
)
SERVER_DRAINING = _upgrade(
    code="SERVER_DRAINING",
    problem="the service is shutting down, or restarting",
    fix="try again in some seconds; if it lasts, look at `gateman status` and at the log",
    decided="gateman answers 503 with Gateman-Refused: SERVER_DRAINING, or a server closes with"
    " 1001 or 1012 at once",
)
REDIRECT_TO_TLS = _upgrade(
    code="REDIRECT_TO_TLS",
    problem="{server} redirects plain HTTP to {where}, and clients do not follow redirects of a"
    " handshake",
    fix="connect with {suggested}",
    decided="301, 302, 303, 307 or 308 from ws:// to https:// of the same host",
)
REDIRECT_SLASH = _upgrade(
    code="REDIRECT_SLASH",
    problem="{server} redirects {path} to {where}, which differs by the slash at its end, and"
    " clients do not follow redirects of a handshake",
    fix="connect with {suggested}, or let both paths lead to the service",
    fixes={
        Software.NGINX: "connect with {suggested}, or write `location {path}` without the slash at"
        " its end",
        Software.APACHE: "connect with {suggested}, or write the ProxyPass line without the slash;"
        " for a folder, `DirectorySlash Off`",
    },
    decided="A redirect to the same path with a slash more or less",
)
REDIRECTED = _upgrade(
    code="REDIRECTED",
    problem="{server} redirects the handshake with {status} to {where}, and clients do not follow"
    " redirects of a handshake",
    fix="connect with {suggested}, or except the path from the redirect",
    decided="A redirect to another host or path. WHATWG, WebSockets: a redirect fails the"
    " connection",
)
HOST_UNKNOWN = _upgrade(
    code="HOST_UNKNOWN",
    problem="{server} does not serve the name {host}: it answers {status}",
    fix="connect by a name that it serves, or add this name to its configuration",
    fixes={
        Software.NGINX: "write the name into server_name of the server block",
        Software.APACHE: "write the name as ServerName or ServerAlias of the virtual host; with"
        " TLS, SNI and Host must name the same one",
        Software.CADDY: "write the name as the address of the site",
    },
    decided="421, or the page of a CDN that says that it does not know the host",
)
HEAD_TOO_LARGE = _upgrade(
    code="HEAD_TOO_LARGE",
    problem="the request head is larger than {server} takes: it answers {status}",
    fix="make cookies and the query smaller, or raise the limit (gateman: limits.max_head_size;"
    " nginx: large_client_header_buffers)",
    decided="413, 414, 431 or 494",
)
WEBSOCKET_VERSION = _upgrade(
    code="WEBSOCKET_VERSION",
    problem="the server speaks another version of the protocol than 13: {versions}",
    fix="update the server's WebSocket library: 13 is the version of RFC 6455, which all clients"
    " speak",
    decided="426 or 400 with a Sec-WebSocket-Version other than 13",
)
WEBSOCKET_UNSUPPORTED = _upgrade(
    code="WEBSOCKET_UNSUPPORTED",
    problem="{server} does not speak WebSocket: it answers the handshake with {status}",
    fix="use a server that does (uvicorn: `pip install 'uvicorn[standard]'`; gunicorn: an ASGI"
    " worker class; PHP-FPM and WSGI cannot)",
    decided="501; or an application server that answers the handshake itself, without a proxy in"
    " front, as it answers a plain request",
)
WRONG_SERVICE = _upgrade(
    code="WRONG_SERVICE",
    problem="another service answers there: {service}",
    fix="connect to the port of the WebSocket service, or let the proxy lead to it",
    fixes={
        Software.NGINX: "correct the port in the proxy_pass of this path",
        Software.APACHE: "correct the port in the ProxyPass line of this path",
        Software.CADDY: "correct the port in the reverse_proxy of this path",
        Software.HAPROXY: "correct the port on the server line of the backend",
    },
    decided="The first bytes of the answer are those of another protocol, as SSH, SMTP or Redis",
)
SOCKET_IO = _upgrade(
    code="SOCKET_IO",
    problem="a Socket.IO server answers at {path}, which wants a query of its own protocol",
    fix="use a Socket.IO client, or look at the URL with the query of its protocol: EIO=4 and"
    " transport=websocket",
    decided="400 with the JSON of Engine.IO: Transport unknown, or Unsupported protocol version",
)
NOT_HTTP = _upgrade(
    code="NOT_HTTP",
    problem="the answer to the handshake is not HTTP",
    fix="connect to the port of the WebSocket service, or let the proxy lead to it",
    decided="The first bytes of the answer are neither a status line nor those of a known protocol",
)
ORIGIN_REFUSED = _upgrade(
    code="ORIGIN_REFUSED",
    problem="the service refuses pages of the origin {origin}",
    fix="add the origin to those that the service allows (gateman: allowed_origins)",
    fixes={
        Software.GATEMAN: "add {origin} to allowed_origins if it is yours",
        Software.NGINX: "add {origin} to those that the service allows (gateman: allowed_origins);"
        " if it compares Origin with Host, write `proxy_set_header Host $http_host;`",
        Software.APACHE: "add {origin} to those that the service allows (gateman: allowed_origins);"
        " if it compares Origin with Host, write `ProxyPreserveHost On`",
    },
    fails_for=frozenset({Client.BROWSERS, Client.WECHAT}),
    decided="The service says so, or the same handshake opens without the Origin field",
)
ORIGIN_REQUIRED = _upgrade(
    code="ORIGIN_REQUIRED",
    problem="the service refuses clients that send no Origin: it answers {status}",
    fix="let the service accept handshakes without Origin, which only browsers send; or have those"
    " clients send one",
    fails_for=_LIBRARIES,
    decided="The handshake opens with an Origin, and not without one",
)
REQUEST_REFUSED = _upgrade(
    code="REQUEST_REFUSED",
    problem="the service takes the request for malformed: it answers {status}",
    fix="look at what the proxy or firewall in front changes in the request: the doctor's own is"
    " well-formed",
    decided="gateman answers with Gateman-Refused: REQUEST_REFUSED, and the sentence says why",
)
APPLICATION_REFUSED = _upgrade(
    code="APPLICATION_REFUSED",
    problem="the application refuses the client: {how}",
    fix="send what the application asks for (a token in the query, a cookie: --header), or look at"
    " the code that decides (gateman: on_websocket_connect and on_open)",
    decided="The application's own answer, marked by gateman as Gateman-Refused:"
    " APPLICATION_REFUSED; or a Close with 1008, 3000, 3003 or a code of its own right after the"
    " 101",
)
APPLICATION_FAILED = _upgrade(
    code="APPLICATION_FAILED",
    problem="the application raises an error: {how}",
    fix="look at the service's log for the traceback, and correct it",
    decided="500 of an application server, or a Close with 1011 right after the 101",
)
APPLICATION_BLOCKS = _upgrade(
    code="APPLICATION_BLOCKS",
    problem="the service does not answer, as one whose event loop is blocked: {how}",
    fix="find what blocks (time.sleep, a slow query or a request without await in a callback) and"
    " await it, or run it in a thread; `py-spy dump --pid PID` shows where it is",
    decided="TCP connections are taken, and neither a handshake nor a plain request gets an answer;"
    " or the 101 comes, and then neither a pong nor an answer to a second handshake",
)
APPLICATION_UNDECIDED = _upgrade(
    code="APPLICATION_UNDECIDED",
    problem="the application does not decide about the handshake within {seconds:.0f} s, while"
    " plain requests are answered",
    fix="look at what it waits for before it accepts (gateman: on_websocket_connect): a database, a"
    " lock, another service; give that a timeout",
    decided="A plain request at the same path gets an answer, the handshake does not",
)
UPSTREAM_FAILED = _upgrade(
    code="UPSTREAM_FAILED",
    severity=Severity.UNDECIDED,
    problem="{server} gets no good answer from the service behind it: it answers {status}",
    fix=f"{_ON_THE_SERVER}, which tells the remaining causes apart; the proxy's error log names it,"
    " too",
    fixes={
        Software.NGINX: f"{_ON_THE_SERVER}, or read the last line of /var/log/nginx/error.log",
        Software.APACHE: f"{_ON_THE_SERVER}, or read the last line of /var/log/apache2/error.log",
        Software.CADDY: f"{_ON_THE_SERVER}, or read the log of Caddy (`journalctl -u caddy`)",
        Software.HAPROXY: f"{_ON_THE_SERVER}, or ask HAProxy: `show stat` on its socket, and the"
        " termination state in its log",
        Software.AWS: "look at the health of the targets in the target group, and at"
        " elb_status_code against target_status_code in the access log",
    },
    decided="502, 503 or 504 with the page of a proxy. From outside, the reasons look the same: the"
    " service is down, another port, another service, the rights of a unix socket, https to a"
    " plain port, a PROXY header that is missing",
)
UPSTREAM_DOWN = _upgrade(
    code="UPSTREAM_DOWN",
    problem="nothing listens where {server} passes the handshake on to",
    fix="start the service (`gateman start server.py -d`), or correct the address in the proxy",
    decided="The proxy's connection is refused",
)
UPSTREAM_WRONG_PORT = _upgrade(
    code="UPSTREAM_WRONG_PORT",
    problem="{server} passes the handshake on to a port where another service listens, or none",
    fix="correct the port in the proxy",
    decided="The port of the proxy's configuration is none of the service's",
)
UPSTREAM_HANGS = _upgrade(
    code="UPSTREAM_HANGS",
    severity=Severity.UNDECIDED,
    problem="{server} answers, and the service behind it does not, within {seconds:.0f} s",
    fix=f"{_ON_THE_SERVER}: the service is blocked, or a firewall drops what the proxy sends to it",
    decided="504; or no answer at all, while the proxy answers a malformed request at once",
)
UPSTREAM_SOCKET_DENIED = _upgrade(
    code="UPSTREAM_SOCKET_DENIED",
    problem="{server} may not open the unix socket of the service",
    fix="give the user of the proxy the right to write to the socket, and to enter its folder",
    decided="The proxy's log says 'Permission denied'",
)
UPSTREAM_ANSWERS_NOT_HTTP = _upgrade(
    code="UPSTREAM_ANSWERS_NOT_HTTP",
    problem="what answers behind {server} does not speak HTTP",
    fix="correct the port in the proxy",
    decided="The proxy's log says that the answer is not valid",
)
CDN_ORIGIN_FAILED = _upgrade(
    code="CDN_ORIGIN_FAILED",
    problem="Cloudflare does not get an answer from the server behind it: {status}, {meaning}",
    fix="{remedy}",
    decided="A status from 520 to 530 with the server field cloudflare, each of which has one"
    " meaning (Cloudflare, 5xx errors)",
)
PROXY_HAS_NO_BACKEND = _upgrade(
    code="PROXY_HAS_NO_BACKEND",
    severity=Severity.UNDECIDED,
    problem="{server} has no server for the path {path}: it answers {status}",
    fix=f"{_ON_THE_SERVER}; either no rule of the proxy selects a backend for this path, or all"
    " servers of it are down",
    fixes={
        Software.AWS: "register targets, and look at their health in the target group: the health"
        " check's path must answer 200 (gateman: health_path)",
        Software.HAPROXY: f"look at `default_backend` and `use_backend` for this path, and at the"
        f" state of its servers (`show stat`), or {_ON_THE_SERVER}",
    },
    decided="503 with the page of a load balancer that tells of no server",
)
SERVER_FAILED = _upgrade(
    code="SERVER_FAILED",
    severity=Severity.UNDECIDED,
    problem="{server} fails itself: it answers {status}",
    fix=f"read its error log; {_ON_THE_SERVER}",
    fixes={
        Software.NGINX: "read the last line of /var/log/nginx/error.log: `worker_connections are"
        " not enough`, a rewrite that loops, or a variable of proxy_pass without a resolver",
    },
    decided="500 with the page of the proxy itself, or a 503 of nobody's",
)
REFUSED_UNKNOWN = _upgrade(
    code="REFUSED_UNKNOWN",
    severity=Severity.UNDECIDED,
    problem="{server} answers the handshake at {path} with {status} and does not say why",
    fix=_ON_THE_SERVER,
    decided="A status that several causes have, and a body that tells nothing",
)
CLOSED_UNANSWERED = _upgrade(
    code="CLOSED_UNANSWERED",
    severity=Severity.UNDECIDED,
    problem="the server closes the connection without an answer to the handshake",
    fix=f"{_ON_THE_SERVER}, which says what arrived",
    decided="The end of the connection, or a reset, in place of an answer",
)
ANSWER_FIELD_LOST = _upgrade(
    code="ANSWER_FIELD_LOST",
    problem="the 101 comes without '{field}'",
    fix="let the proxy pass the fields of the 101 on as they are",
    fixes={
        Software.NGINX: "remove proxy_hide_header for {field}",
        Software.APACHE: "remove `Header unset` for {field}",
        Software.CADDY: "remove `header_down -` for {field}",
        Software.HAPROXY: "remove `http-response del-header` for {field}",
    },
    decided="RFC 6455, section 4.1: a client fails the connection without Upgrade, Connection or"
    " Sec-WebSocket-Accept in the 101",
)
ANSWER_HTTP_1_0 = _upgrade(
    code="ANSWER_HTTP_1_0",
    problem="the 101 comes as HTTP/1.0",
    fix="let the server, or the proxy in front, answer as HTTP/1.1 (RFC 6455, section 4.2.2)",
    decided="The status line of the 101 is that of HTTP/1.0, which browsers refuse",
)
ACCEPT_WRONG = _upgrade(
    code="ACCEPT_WRONG",
    problem="Sec-WebSocket-Accept of the 101 does not answer the key of the request",
    fix="let the proxy pass Sec-WebSocket-Key and Sec-WebSocket-Accept on as they are; a server of"
    " your own must compute it from the key of each request (RFC 6455, section 4.2.2)",
    decided="The value is not the hash of the key that was sent",
)
ANSWER_CACHED = _upgrade(
    code="ANSWER_CACHED",
    problem="a cache answers the handshake ({field})",
    fix="except the path of the WebSocket from the cache, and purge it",
    fixes={
        Software.NGINX: "write `proxy_cache off;` into the location of this path",
        Software.CLOUDFLARE: "make a cache rule that bypasses the cache for this path, and purge"
        " it",
    },
    decided="Sec-WebSocket-Accept is that of another key, and the answer has an Age above 0, or"
    " says that it is a hit of a cache",
)
ANSWER_HAS_BODY = _upgrade(
    code="ANSWER_HAS_BODY",
    problem="text follows the 101 where frames begin",
    fix="let the server send nothing between the empty line of the 101 and its first frame; in PHP,"
    " nothing may be printed; a proxy must not add to the answer",
    decided="The bytes behind the head of the 101 are text, or a Content-Length announces some",
)
EXTENSION_UNOFFERED = _upgrade(
    code="EXTENSION_UNOFFERED",
    problem="the 101 agrees to an extension that was not offered: {extension}",
    fix="let the proxy pass Sec-WebSocket-Extensions on as it is, or remove it from the request and"
    " the answer",
    fixes={
        Software.NGINX: "remove the `proxy_set_header Sec-WebSocket-Extensions` and `add_header`"
        " lines of this path",
        Software.HAPROXY: "remove the http-request and http-response lines for"
        " Sec-WebSocket-Extensions",
    },
    decided="RFC 6455, section 4.1: a client fails the connection then. It is looked at with and"
    " without an offer of compression, and with the parameters of RFC 7692",
)
SUBPROTOCOL_UNOFFERED = _upgrade(
    code="SUBPROTOCOL_UNOFFERED",
    problem="the 101 selects the subprotocol {subprotocol!r}, which was not offered",
    fix="let the server select one of those that the client offers, or none",
    decided="RFC 6455, section 4.1: a client fails the connection then",
)
SUBPROTOCOL_NOT_SELECTED = _upgrade(
    code="SUBPROTOCOL_NOT_SELECTED",
    problem="the server selects none of the subprotocols {offered}",
    fix="let the service speak one of them (gateman: subprotocols=), leave them out of the client,"
    " or let the proxy pass Sec-WebSocket-Protocol on",
    fails_for=frozenset({Client.BROWSERS, Client.NODE}),
    decided="The 101 has no Sec-WebSocket-Protocol though some were offered. Browsers and Node end"
    " the connection then; others go on",
)
FRAMES_INVALID = _websocket(
    code="FRAMES_INVALID",
    problem="what follows the 101 is not a WebSocket frame of a server: {what}",
    fix="let the proxy pass the bytes on as they are; a server of your own must not mask its"
    " frames, nor set bits of an extension that was not agreed on",
    decided="A masked frame, a reserved bit or an unknown opcode (RFC 6455, sections 5.1 and 5.2)",
)
COMPRESSION_NOT_AGREED = _websocket(
    code="COMPRESSION_NOT_AGREED",
    problem="the service compresses its messages, and the 101 does not say so",
    fix="let the proxy pass Sec-WebSocket-Extensions of the answer on, or remove it from the"
    " request too",
    fixes={
        Software.NGINX: "remove `proxy_hide_header Sec-WebSocket-Extensions`",
        Software.HAPROXY: "remove `http-response del-header Sec-WebSocket-Extensions`, or add"
        " `http-request del-header Sec-WebSocket-Extensions`",
    },
    decided="Frames have the bit of permessage-deflate (RSV1), which the 101 does not name",
)
PONG_WRONG = _websocket(
    code="PONG_WRONG",
    problem="the pong does not have the payload of the ping",
    fix="let the server echo the payload (RFC 6455, section 5.5.3)",
    fails_for=frozenset({Client.PYTHON}),
    decided="A ping with 8 bytes gets a pong with others. Clients that match the two, as Python's"
    " websockets does, end the connection after their timeout",
)
PONG_MISSING = _websocket(
    code="PONG_MISSING",
    severity=Severity.UNDECIDED,
    problem="the 101 comes, and a ping gets no pong within {seconds:.0f} s",
    fix=f"look whether the service is blocked, and whether the proxy passes frames on in both"
    f" directions: {_ON_THE_SERVER}",
    decided="A ping gets no answer, while another handshake does: either the code of this"
    " connection is blocked, or the server does not answer pings, or the proxy opened no tunnel",
)
CLOSED_AT_ONCE = _websocket(
    code="CLOSED_AT_ONCE",
    problem="the server closes the connection right after it opened, with {how}",
    fix="look at the code that runs when a connection opens (gateman: on_open), and at what it asks"
    " for",
    decided="A Close with 1000, 1003, 1007, 1009 or 1010 before a second is over",
)
SERVER_OVERLOADED = _websocket(
    code="SERVER_OVERLOADED",
    problem="the server closes the connection with {how}: it is overloaded",
    fix="try again later; give the service more processes (count=), or raise its limits",
    decided="A Close with 1013 right after the 101",
)
BROKEN_AT_ONCE = _websocket(
    code="BROKEN_AT_ONCE",
    severity=Severity.UNDECIDED,
    problem="the connection ends right after the 101 without a Close, which clients report as 1006",
    fix=f"read the service's log for an error in what runs when a connection opens; then the"
    f" proxy's; {_ON_THE_SERVER}",
    decided="The end of the connection, or a reset, before a second is over: the application ended"
    " it or its process died, or a proxy did that does not keep a tunnel open",
)
CREDENTIALS_WITHHELD = _upgrade(
    code="CREDENTIALS_WITHHELD",
    severity=Severity.NOTE,
    problem="a browser page connects without the cookies and the HTTP authentication that the"
    " browser sent: {explanation}",
    fix="add the page's origin to allowed_origins if it is yours",
    fails_for=frozenset({Client.BROWSERS}),
    decided="gateman, without allowed_origins, compares Origin with Host",
)
PROXY_NOT_TRUSTED = _proxy(
    code="PROXY_NOT_TRUSTED",
    severity=Severity.NOTE,
    problem="{handshake} has {field}, which is not believed",
    fix="if that address is a proxy of yours, add it to trusted_proxies; if it is a client, leave"
    " all as it is",
    fails_for=frozenset(),
    decided="A forwarding field comes from a peer that is not in trusted_proxies",
)
DECLARATIONS = declared_in(globals())
