"""
Kinds of findings about a service seen from its own machine: it, the machine, and its proxy. PURE.

``{proxy}`` is the software, ``{where}`` the file and line of the block that decides.
"""

from functools import partial

from . import Client, Declaration, Severity, Software, Stage, declared_in

_tcp = partial(Declaration, stage=Stage.TCP)
_proxy = partial(Declaration, stage=Stage.PROXY)
_lasting = partial(Declaration, stage=Stage.LASTING)
_service = partial(Declaration, stage=Stage.SERVICE)

_START = "gateman start {script} -d"
_LOCATION = (
    "`gateman proxy nginx --path {path}` prints a location for it; then: nginx -t && nginx -s"
    " reload"
)

# The service.

SERVICE_INVALID = _service(
    code="SERVICE_INVALID",
    problem="the service would not start: {mistake}",
    fix="correct {script}; `gateman check {script}` tells whether it would start",
    decided="The script is loaded, and what it declares is checked, as `gateman check` does. While"
    " the service runs, it is a warning: its processes have what was declared before, and a reload"
    " keeps them.",
)
SERVICE_NOT_RUNNING = _service(
    code="SERVICE_NOT_RUNNING",
    problem="{script} is not running",
    fix=f"start it: {_START}",
    decided="Nobody answers at the control socket of the script. Without a URL it is a note, as the"
    " doctor may look before the start.",
)
SERVICE_UNREACHABLE = _service(
    code="SERVICE_UNREACHABLE",
    severity=Severity.NOTE,
    problem="the running service could not be asked: {reason}",
    fix="run the doctor as the user who started the service",
    decided="The control socket belongs to another user, or an older version runs.",
)
MASTER_SILENT = _service(
    code="MASTER_SILENT",
    severity=Severity.WARNING,
    problem="the master of {script} (pid {pid}) {how}: processes that end are not replaced, and no"
    " command works",
    fix="`kill -CONT {pid}` wakes a process that was stopped; if it was not, it hangs, or the"
    " machine is too busy to run it",
    decided="The control socket accepts the connection, and no answer comes in two seconds. The"
    " system tells whether the process is stopped.",
)
SERVICE_CHANGED = _service(
    code="SERVICE_CHANGED",
    severity=Severity.WARNING,
    problem="{script} declares the addresses {declared}, and the running service listens on"
    " {running}",
    fix="gateman restart {script}: a reload does not change addresses",
    decided="The status of the running service against what the script declares now. It is a cause"
    " if the URL leads to an address that is declared and not in use yet.",
)
SERVICE_CRASHES = _service(
    code="SERVICE_CRASHES",
    problem="no process of {worker} serves: {how}",
    fix="correct what the last lines of its log say, then: gateman reload {script}",
    decided="Every slot of the worker waits to be started again, or was given up after too many"
    " crashes.",
)
SERVICE_CRASHES_PARTLY = _service(
    code="SERVICE_CRASHES_PARTLY",
    severity=Severity.WARNING,
    problem="{count} of {total} processes of {worker} do not serve: {how}",
    fix="correct what the last lines of its log say, then: gateman reload {script}",
    decided="Some slots of the worker wait to be started again, or were given up.",
)
SERVICE_UNSTABLE = _service(
    code="SERVICE_UNSTABLE",
    problem="the processes of {worker} end again and again, {count} times in five minutes: the last"
    " one {how}",
    fix="correct what the last lines of its log say, then: gateman reload {script}",
    decided="The slots of the worker have had three crashes or more in the last five minutes, and"
    " processes serve between them. It is a warning if other slots have had fewer.",
)
PROCESS_ENDED = _service(
    code="PROCESS_ENDED",
    problem="a process of {worker} {how} when the doctor's handshake arrived",
    fix="correct what the last lines of its log say; it is code that runs when a client connects"
    " (on_websocket_connect, on_open), or an extension module that it calls",
    decided="The status before and after the handshake: a process has crashed between them, and the"
    " handshake was not accepted, or no other process saw it.",
)
SERVICE_STARTING = _service(
    code="SERVICE_STARTING",
    problem="the processes of {worker} have been starting for {seconds:.0f} s",
    fix="see what on_worker_start waits for (`gateman status {script}` and the log); a bus that is"
    " away holds it up, too",
    decided="No process of the worker serves yet, and the youngest is older than a few seconds.",
)
SERVICE_BLOCKED = _service(
    code="SERVICE_BLOCKED",
    problem="the processes of {worker} do not answer (pid {pids}): a callback blocks them, or they"
    " are stopped",
    fix="let callbacks await, or run slow work in another thread (asyncio.to_thread): the log has"
    " the stack once `timeouts.stall` is over; `kill -CONT {pids}` wakes processes that were"
    " stopped",
    decided="No process of the worker answers its master within 60 ms, several times in a row.",
)
SERVICE_SLOW = _service(
    code="SERVICE_SLOW",
    severity=Severity.WARNING,
    problem="a callback of {worker} has held all its clients up for {lag:.1f} s lately",
    fix="let callbacks await, or run slow work in another thread (asyncio.to_thread)",
    decided="The event loop of a process was late by more than half a second in the last seconds.",
)
BUSINESS_MISSING = _service(
    code="BUSINESS_MISSING",
    problem="no business worker serves the gateway {worker}, which refuses handshakes with 503",
    fix="start the business workers, and look at the bus: `gateman bus {script}` tells where it is",
    decided="The answer to the doctor's handshake says so, or all slots of the business workers"
    " are down.",
)
BUS_AWAY = _service(
    code="BUS_AWAY",
    severity=Severity.WARNING,
    problem="the bus of {worker} is away: {servers} cannot be connected to ({reason})",
    fix="start the NATS server, or correct the URL in bus=; until then nothing comes from other"
    " processes, gateways refuse handshakes, and no process starts",
    decided="A TCP connection to each server of the bus's URL fails from this machine.",
)
PORT_TAKEN = _service(
    code="PORT_TAKEN",
    problem="{owner} listens on port {port}, which {worker} wants",
    fix="end that process, or give the worker another port",
    decided="/proc/net/tcp names a listening socket of the port that none of the service's"
    " processes has; or the service is not running.",
)
DESCRIPTORS_FEW = _service(
    code="DESCRIPTORS_FEW",
    severity=Severity.WARNING,
    problem="{worker} has {connections} connections in one process, and the limit on open files is"
    " {limit}",
    fix="raise the limit (ulimit -n, or LimitNOFILE= in the unit), then restart the service",
    decided="More than four fifths of the limit of a process, less 64, are in use.",
)
CLOCK_BEHIND = _service(
    code="CLOCK_BEHIND",
    severity=Severity.WARNING,
    problem="this machine's clock is behind: it is {now}, and {file} was written at {written}",
    fix="set the clock, and have a time service keep it right (timedatectl set-ntp true)",
    decided="A file of the service is more than a minute younger than the clock says it is now.",
)
REFUSALS_COUNTED = _service(
    code="REFUSALS_COUNTED",
    severity=Severity.NOTE,
    problem="since its start, {worker} has refused or lost clients: {told}",
    fix="look into the log of that time, which has a sentence for each",
    decided="Counters of `gateman status --json` that tell of clients that could not connect.",
)

# The addresses.

LISTENS_ELSEWHERE = _tcp(
    code="LISTENS_ELSEWHERE",
    problem="the URL leads to {where}, where nothing listens on this machine, and the service"
    " listens on {listens}",
    fix="connect to where the service listens, let it listen on {where}, or put a proxy in front of"
    " it that does",
    decided="The name leads to this machine, and no process listens on the URL's port, or none at"
    " an address of the name.",
)
SPEAKS_ANOTHER_PROTOCOL = _tcp(
    code="SPEAKS_ANOTHER_PROTOCOL",
    problem="port {port} is that of the worker {worker}, which speaks {protocol}:// and no"
    " WebSocket",
    fix="connect WebSockets to the port of a WebSocket worker, and clients of {protocol}:// here",
    decided="The name leads to this machine, and a worker that listens on tcp://, text:// or"
    " frame:// has the URL's port.",
)
LISTENS_ON_IPV4_ONLY = _tcp(
    code="LISTENS_ON_IPV4_ONLY",
    problem="{host} has the IPv6 address {address}, and the service listens on {listens} only",
    fix="listen on websocket://[::]:{port}, which takes IPv4 too, or remove the AAAA record",
    fails_for=frozenset({Client.NODE, Client.PYTHON, Client.ANDROID, Client.WECHAT}),
    decided="The name has an AAAA record, and no socket of the port listens on IPv6.",
)
LISTENS_ON_LOOPBACK_ONLY = _tcp(
    code="LISTENS_ON_LOOPBACK_ONLY",
    problem="{host} leads to {address}, and the service listens on {listens}, for its own machine"
    " only",
    fix="listen on 0.0.0.0 or [::] in place of the loopback address, or put a proxy in front",
    decided="The URL's port is the worker's own, and the worker's address is a loopback address.",
)
PORT_OF_ANOTHER = _tcp(
    code="PORT_OF_ANOTHER",
    problem="the URL leads to port {port}, where {owner} listens and passes nothing on to the"
    " service, which listens on {listens}",
    fix="connect to the service's port, or let {owner} pass the path on to it",
    decided="The name leads to this machine, another process has the port, no configuration of a"
    " proxy that is known here was found for it, and the doctor's handshake did not arrive.",
)

# The proxy.

PROXY_CONFIGURATION_UNREAD = _proxy(
    code="PROXY_CONFIGURATION_UNREAD",
    severity=Severity.NOTE,
    problem="the configuration of {proxy} could not be read: {reason}",
    fix="run the doctor as a user who may read it, or give the file with --proxy-config",
    decided="The proxy listens on the URL's port, and its files, or its own dump of them, cannot be"
    " read or understood.",
)
PROXY_UNCLEAR = _proxy(
    code="PROXY_UNCLEAR",
    severity=Severity.NOTE,
    problem="what {proxy} does with {path} depends on what could not be followed here: {doubt}",
    fix="look at that line; the handshake that the doctor sends tells what arrives",
    decided="A variable, a condition or a module decides.",
)
PROXY_NAME_UNKNOWN = _proxy(
    code="PROXY_NAME_UNKNOWN",
    problem="no block of {proxy} names {host}, so that its default answers ({where}): {answer}",
    fix="add the name to the block that leads to the service",
    fixes={
        Software.NGINX: "write `server_name {host};` into the server block that leads to the"
        " service, then: nginx -t && nginx -s reload",
        Software.APACHE: "write `ServerAlias {host}` into the VirtualHost that leads to the"
        " service, then: apachectl configtest && apachectl graceful",
        Software.CADDY: "name the site {host} in the Caddyfile, then: caddy reload",
    },
    decided="The configuration has no server_name, ServerName or host matcher for the host, and"
    " what answers in its place does not lead to the service.",
)
PROXY_ANSWERS_ITSELF = _proxy(
    code="PROXY_ANSWERS_ITSELF",
    problem="{proxy} answers {path} itself and does not pass it on ({block}, {where}): {answer}",
    fix="let this path lead to the service",
    fixes={
        Software.NGINX: _LOCATION,
        Software.APACHE: "write `ProxyPass {path} http://{listens}{path} upgrade=websocket` before"
        " the rules of the rest of the site; `gateman proxy apache --path {path}` prints it",
        Software.CADDY: "write `reverse_proxy {path}* {listens}` before file_server, then: caddy"
        " reload",
        Software.HAPROXY: "write `use_backend workers if {{ path_beg {path} }}` into the frontend",
    },
    decided="The block of the configuration that gets the path has no rule that passes it on.",
)
PROXY_REDIRECTS = _proxy(
    code="PROXY_REDIRECTS",
    problem="{proxy} redirects {path} ({where}): {answer}; clients do not follow redirects of a"
    " handshake",
    fix="connect to where it leads, or except the path of the WebSocket from the redirect",
    decided="The block of the configuration that gets the path redirects it.",
)
PROXY_DENIES = _proxy(
    code="PROXY_DENIES",
    problem="{proxy} denies {path} ({where}): {answer}",
    fix="except the path of the WebSocket from this rule",
    decided="The block of the configuration that gets the path denies it to everybody.",
)
PROXY_RESTRICTS = _proxy(
    code="PROXY_RESTRICTS",
    severity=Severity.WARNING,
    problem="{proxy} lets only some clients through to {path} ({where}): {rules}",
    fix="except the path of the WebSocket from these rules, unless they are meant for it",
    decided="The block of the configuration that gets the path has rules of access, or limits.",
)
PROXY_INCOMPLETE = _proxy(
    code="PROXY_INCOMPLETE",
    problem="{proxy} cannot pass {path} on ({where}), and answers 500: it lacks {missing}",
    fix="add {missing} and restart it",
    decided="The configuration passes the path on, and does not load the module, or turn on what"
    " that needs.",
)
UPSTREAM_TLS_FAILED = _proxy(
    code="UPSTREAM_TLS_FAILED",
    problem="the TLS handshake of {proxy} with {worker} failed: {message}",
    fix="let the worker speak plain behind the proxy (without transport='ssl'), or let the proxy"
    " trust its certificate",
    fixes={
        Software.NGINX: "write `proxy_ssl_trusted_certificate FILE;` with the worker's authority,"
        " or `proxy_ssl_verify off;`; or let the worker speak plain, and write proxy_pass http://",
        Software.HAPROXY: "write `ca-file FILE` on the server line, or `verify none`; or let the"
        " worker speak plain, and remove ssl",
        Software.APACHE: "write `SSLProxyCACertificateFile FILE`, or `SSLProxyVerify none`; or let"
        " the worker speak plain, and write http:// in ProxyPass",
    },
    decided="The worker counts a TLS handshake that failed while the doctor's handshake is on its"
    " way, and the handshake itself does not arrive.",
)
SOCKET_REMOVED = _service(
    code="SOCKET_REMOVED",
    problem="the unix socket {path} of {worker} was removed, and no client can connect",
    fix="gateman reload {script}, which makes it anew; look at what removes it (a tmp cleaner,"
    " RuntimeDirectory= of another unit)",
    decided="The service runs, and there is no file at the path that it listens on.",
)
PROXY_LEADS_ELSEWHERE = _proxy(
    code="PROXY_LEADS_ELSEWHERE",
    problem="{proxy} leads {path} to {upstreams} ({where}), and the service listens on {listens}",
    fix="correct the address in the proxy to {listens}, and reload it",
    fixes={
        Software.NGINX: "write `proxy_pass http://{listens};` there, then: nginx -t && nginx -s"
        " reload",
        Software.APACHE: "write http://{listens} there in place of {upstreams}, then: apachectl"
        " configtest && apachectl graceful",
        Software.CADDY: "write `reverse_proxy {listens}` there, then: caddy reload",
        Software.HAPROXY: "write `server worker {listens}` there, then reload HAProxy",
    },
    decided="The upstream of the configuration is on this machine, and no worker listens there.",
)
PROXY_HEADER_MISSING = _proxy(
    code="PROXY_HEADER_MISSING",
    problem="{worker} requires a PROXY header, and {proxy} sends none",
    fix="let the proxy send it, or remove proxy_protocol='required' from the worker",
    fixes={
        Software.HAPROXY: "write send-proxy-v2 on the server line, or remove"
        " proxy_protocol='required' from the worker",
        Software.NGINX: "remove proxy_protocol='required' from the worker: nginx sends a PROXY"
        " header only from a stream block (proxy_protocol on)",
        Software.APACHE: "remove proxy_protocol='required' from the worker: Apache sends no PROXY"
        " header (ProxyPass has no such option for HTTP)",
        Software.CADDY: "write `proxy_protocol v2` into the http transport, or remove"
        " proxy_protocol='required' from the worker",
    },
    decided="The worker counts connections without a PROXY header when the doctor's handshake"
    " comes, or the proxy's configuration sends none.",
)
PROXY_IDLE_TIMEOUT = _lasting(
    code="PROXY_IDLE_TIMEOUT",
    problem="{proxy} ends connections after {timeout:g} s of silence ({option}, {where}), and the"
    " service pings every {ping:g} s",
    fix="raise the proxy's timeout above the ping interval, or lower `timeouts.ping_interval`",
    fixes={
        Software.NGINX: "write `proxy_read_timeout {needed}s;` into that location, then: nginx -t"
        " && nginx -s reload",
        Software.APACHE: "write `timeout={needed}` at the end of that ProxyPass line (or Timeout"
        " {needed}), then: apachectl graceful",
        Software.HAPROXY: "write `timeout tunnel {needed}s` into the backend, then reload HAProxy",
        Software.CADDY: "remove read_timeout from the transport, or write {needed}s",
    },
    decided="The proxy's timeout is not above the worker's ping interval.",
    details="Connections open, and end after that time whenever nobody sends a message.",
)
PROXY_IDLE_UNPINGED = _lasting(
    code="PROXY_IDLE_UNPINGED",
    severity=Severity.WARNING,
    problem="{proxy} ends connections after {timeout:g} s of silence ({option}, {where}), and the"
    " service does not ping",
    fix="set `timeouts.ping_interval` below {timeout:g}, or have the clients send something more"
    " often",
    decided="The worker's ping interval is None, and the proxy has a timeout.",
)
PROXY_STREAM_TIMEOUT = _lasting(
    code="PROXY_STREAM_TIMEOUT",
    severity=Severity.WARNING,
    problem="{proxy} ends every WebSocket after {timeout:g} s, used or not (stream_timeout,"
    " {where})",
    fix="remove stream_timeout from that reverse_proxy, unless it is meant",
    decided="Caddy's reverse_proxy has a stream_timeout.",
)
HOST_REPLACED = _proxy(
    code="HOST_REPLACED",
    severity=Severity.WARNING,
    problem="{proxy} does not tell the service which host the client asked for ({where}), so that"
    " pages of that very host count as foreign: they connect without cookies",
    fix="pass Host on, or set allowed_origins at the worker",
    fixes={
        Software.NGINX: "write `proxy_set_header Host $http_host;` into that location, then: nginx"
        " -t && nginx -s reload",
        Software.APACHE: "write `ProxyPreserveHost On` into the virtual host",
        Software.CADDY: "remove `header_up Host` from that reverse_proxy",
    },
    decided="Host arrives with the proxy's own name for the service, and there is no"
    " X-Forwarded-Host; allowed_origins is not set.",
)
CLIENT_ADDRESS_UNKNOWN = _proxy(
    code="CLIENT_ADDRESS_UNKNOWN",
    severity=Severity.NOTE,
    problem="{proxy} does not tell the service who its clients are ({where}): all have the proxy's"
    " address",
    fix="let the proxy set X-Forwarded-For",
    fixes={
        Software.NGINX: "write `proxy_set_header X-Forwarded-For $remote_addr;` into that location",
        Software.HAPROXY: "write `option forwardfor` into the frontend, or send-proxy-v2 on the"
        " server line with proxy_protocol='required' at the worker",
    },
    decided="The block that passes the path on sets none of X-Forwarded-For, X-Real-IP and"
    " Forwarded, and sends no PROXY header.",
)
PROXY_UNTRUSTED = _proxy(
    code="PROXY_UNTRUSTED",
    severity=Severity.WARNING,
    problem="the proxy at {peer} is not in trusted_proxies of {worker}: all clients count as one"
    " address, of which {limit} connections are taken",
    fix="write trusted_proxies=[{peer!r}] at the worker",
    decided="The doctor's handshake came from that address with a field that names its client, or"
    " the proxy's configuration leads there.",
)
PROXY_UNTRUSTED_DROPPED = _proxy(
    code="PROXY_UNTRUSTED_DROPPED",
    problem="{worker} requires a PROXY header, and drops the connections of the proxy at {peer},"
    " which is not in its trusted_proxies",
    fix="write trusted_proxies=[{peer!r}] at the worker",
    decided="The worker counts proxy_not_trusted when the doctor's handshake comes.",
)
SOCKET_DENIED = _proxy(
    code="SOCKET_DENIED",
    problem="{proxy} runs as {user}, who may not {right} {path} ({mode} {owner})",
    fix="give that user the right: chmod or chgrp the folder, or run the service with a group that"
    " both are in",
    decided="The mode and the owners of the socket and of each folder above it, against the proxy's"
    " user and its groups.",
)

# What arrived.

HANDSHAKE_NOT_ARRIVED = _proxy(
    code="HANDSHAKE_NOT_ARRIVED",
    severity=Severity.UNDECIDED,
    problem="the doctor's handshake to {url} got {answer}, and nothing of it arrived at this"
    " service",
    fix="see what answers there: {command}",
    decided="No process of the service saw the doctor's nonce, nor an attempt that failed, while"
    " the handshake was on its way.",
    details="What remains: the name leads to another machine, a proxy in front leads elsewhere or"
    " answers itself, or a firewall or a CDN in front answers.",
)
ANOTHER_SERVICE_ANSWERS = _proxy(
    code="ANOTHER_SERVICE_ANSWERS",
    problem="a WebSocket opens at {url}, and it is not this service: nothing arrived here",
    fix="let the name or the proxy lead to this machine and to {listens}, or run the doctor where"
    " the URL leads to ({addresses})",
    decided="The handshake was answered with 101, and no process of this service saw its nonce.",
)
ANSWER_LOST = _proxy(
    code="ANSWER_LOST",
    problem="the service accepted the doctor's handshake with 101, and {answer} came back",
    fix="let what is in front of the service pass on the answer of an upgrade, not only the"
    " request",
    fixes={
        Software.APACHE: "write upgrade=websocket at the end of the ProxyPass line, in place of"
        " RequestHeader set Upgrade",
    },
    decided="The service saw the nonce and answered 101, which did not come back.",
)
DECLARATIONS = declared_in(globals())
