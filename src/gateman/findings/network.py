"""Kinds of findings about URL, name resolution, TCP and TLS versions. PURE."""

from functools import partial

from . import Client, Declaration, Severity, Software, Stage, declared_in

_url = partial(Declaration, stage=Stage.URL)
_name = partial(Declaration, stage=Stage.NAME)
_tcp = partial(Declaration, stage=Stage.TCP)
_tls = partial(Declaration, stage=Stage.TLS)
_proxy = partial(Declaration, stage=Stage.PROXY)

_PROXY_WEBSOCKET = {
    Software.NGINX: "write listen {port} ssl; with ssl_certificate and ssl_certificate_key, in"
    " the server block of {host}; or connect to ws://{authority}",
    Software.APACHE: "write SSLEngine on, SSLCertificateFile and SSLCertificateKeyFile, in the"
    " <VirtualHost *:{port}> of {host}; or connect to ws://{authority}",
    Software.HAPROXY: "write bind :{port} ssl crt FILE, in the frontend; or connect to"
    " ws://{authority}",
    Software.CADDY: "name the site https://{host}:{port} in the Caddyfile, without http://; or"
    " connect to ws://{authority}",
    Software.GATEMAN: 'write worker.transport = "ssl" with local_cert and local_pk; or connect to'
    " ws://{authority}",
}

# The URL.

URL_SPACES = _url(
    code="URL_SPACES",
    problem="the URL has spaces or line breaks in it or around it, which browsers remove or encode"
    " and other clients refuse",
    fix="remove them where the client's configuration has the URL; write %20 for a space that"
    " belongs to the path",
    fails_for=frozenset({Client.JAVA, Client.PYTHON}),
    decided="By the URL as it was given",
)
URL_FRAGMENT = _url(
    code="URL_FRAGMENT",
    problem="the URL has a fragment (#…), which the URL of a WebSocket must not have",
    fix="remove it; write %23 for a number sign that belongs to the path",
    fails_for=frozenset({Client.NODE, Client.PYTHON}),
    decided="By the URL as it was given (RFC 6455, section 3)",
    details="Browsers refused such a URL with a SyntaxError until 2024; newer ones ignore the"
    " fragment.",
)
URL_USER_INFO = _url(
    code="URL_USER_INFO",
    severity=Severity.WARNING,
    problem="the URL has a user name or a password in it, which some clients send and others"
    " leave out",
    fix="send it in a header or in the first message",
    decided="By the URL as it was given",
)
PORT_BLOCKED = _url(
    code="PORT_BLOCKED",
    problem="browsers never connect to port {port}, which they keep for another protocol",
    fix="listen on another port, such as 443 or 8443",
    fails_for=frozenset({Client.BROWSERS}),
    decided="By the list of bad ports of the Fetch standard",
)
URL_PLAIN = _url(
    code="URL_PLAIN",
    severity=Severity.WARNING,
    problem="ws:// is not encrypted: pages on https:// may not open it, and neither may WeChat mini"
    " programs",
    fix="serve wss://{host}, with a certificate for that name",
    fails_for=frozenset({Client.WECHAT}),
    decided="The scheme is ws, and the host is not on a private network",
)
URL_ADDRESS = _url(
    code="URL_ADDRESS",
    severity=Severity.WARNING,
    problem="the URL has an IP address where WeChat mini programs need a domain, and few"
    " certificates are for addresses",
    fix="connect by a domain that the certificate is for, and register it with WeChat",
    fails_for=frozenset({Client.WECHAT}),
    decided="The host is an IP address that is not on a private network",
)

# The name.

NAME_UNKNOWN = _name(
    code="NAME_UNKNOWN",
    problem="the name {host} does not exist in the DNS",
    fix="look for a typing error; else add an A record for {host} where its domain is managed, and"
    " see that the domain has not expired: dig {host}",
    decided="The system's resolver says that there is no such name, for A and AAAA",
)
NAME_WITHOUT_ADDRESS = _name(
    code="NAME_WITHOUT_ADDRESS",
    problem="the name {host} exists and has no address",
    fix="add an A record for {host} where its domain is managed: dig {host} A",
    decided="The resolver knows the name, and has neither A nor AAAA for it",
)
NAME_TIMEOUT = _name(
    code="NAME_TIMEOUT",
    severity=Severity.UNDECIDED,
    problem="the resolver of this machine gives no answer for {host}",
    fix="ask another resolver with dig @1.1.1.1 {host}: if it answers, the resolver of this machine"
    " is faulty (/etc/resolv.conf), else the name servers of the domain are",
    decided="Neither A nor AAAA was answered in time, or the resolver reports a failure",
    details="A name server that does not answer, a delegation to one that no longer exists, DNSSEC"
    " signatures that have expired and a machine without a network all look like this.",
)
NAME_QUERY_UNANSWERED = _name(
    code="NAME_QUERY_UNANSWERED",
    severity=Severity.WARNING,
    problem="the question for the {family} records of {host} is not answered, while the other is,"
    " so that clients wait some seconds before they connect",
    fix="have the name servers of the domain answer it, with an empty answer if there is none:"
    " dig {host} {family}",
    decided="One of the questions for A and AAAA was answered with addresses; the other was not"
    " answered in time",
)
ADDRESS_PRIVATE = _name(
    code="ADDRESS_PRIVATE",
    severity=Severity.WARNING,
    problem="{host} leads to {addresses}, {kind}",
    fix="set the A record to the server's public address; /etc/hosts of this machine may say more",
    decided="The name is one of the public DNS, and an address of it is not. It is a cause if no"
    " connection opens to that address from here",
)
IPV6_ONLY = _name(
    code="IPV6_ONLY",
    severity=Severity.WARNING,
    problem="{host} has IPv6 addresses only, which a client without IPv6 cannot reach",
    fix="add an A record with an IPv4 address",
    decided="The name has AAAA records and no A record. It is a cause if this machine itself has no"
    " way to IPv6 addresses",
)

# TCP.

TCP_REFUSED = _tcp(
    code="TCP_REFUSED",
    problem="connections to {addresses} port {port} are refused: nothing listens there",
    fix="start the service, let it listen on 0.0.0.0 (not on 127.0.0.1) and on this port, or put"
    " the port on which it listens into the URL; on the server look with: ss -ltnp 'sport ="
    " :{port}'",
    decided="TCP is answered with a reset at once. A firewall that drops would give no answer; one"
    " that rejects mostly sends an ICMP message (TCP_REJECTED), and can be set to send a reset",
)
LISTENS_ON_LOOPBACK = _tcp(
    code="LISTENS_ON_LOOPBACK",
    problem="port {port} is open on {loopback} and refused on {addresses}: the service listens for"
    " its own machine only",
    fix="let it listen on 0.0.0.0 (or on {addresses}) and not on {loopback}, or put a proxy before"
    " it",
    fixes={
        Software.GATEMAN: 'write Worker("websocket://0.0.0.0:{port}") in place of {loopback}',
    },
    decided="The address belongs to this machine; the port is refused on it and open on loopback",
)
TCP_DROPPED = _tcp(
    code="TCP_DROPPED",
    problem="no answer comes from {addresses} port {port}: a firewall drops the packets, or the"
    " address is not the server's",
    fix="allow TCP port {port} in the server's firewall and in the cloud's security group, and"
    " compare the address with the server's own: ip address",
    decided="No answer to TCP within the deadline, where a closed port would answer with a reset",
    details="Typical rules: `ufw allow PORT/tcp`, `firewall-cmd --add-port=PORT/tcp"
    " --permanent`, and an inbound rule of the security group. A machine that is switched off"
    " looks the same.",
)
TCP_REJECTED = _tcp(
    code="TCP_REJECTED",
    problem="connections to {addresses} port {port} are rejected on the way ({reason}): a firewall"
    " forbids it, or no machine has the address",
    fix="allow TCP port {port} in the firewall (the rule that says REJECT), and compare the address"
    " with the server's own: ip address",
    decided="The answer is an ICMP message (administratively prohibited, host or network"
    " unreachable), and this machine itself has a route",
)
TCP_FAILED = _tcp(
    code="TCP_FAILED",
    severity=Severity.UNDECIDED,
    problem="this machine cannot connect to {addresses} port {port} ({reason})",
    fix="try from another machine; if it works there, a firewall or a limit of this machine is the"
    " cause",
    decided="The system reports an error that is neither a refusal, nor a timeout, nor an ICMP"
    " message",
)
NO_ROUTE = _tcp(
    code="NO_ROUTE",
    severity=Severity.UNDECIDED,
    problem="this machine has no route to {addresses}, so nothing can be said of the server",
    fix="look from a machine with a network: ip route get {addresses}",
    decided="The system knows no route; no packet was sent",
)
IPV6_DEAD = _tcp(
    code="IPV6_DEAD",
    problem="the IPv6 address of {host} leads nowhere ({addresses} port {port}: {reason}), while"
    " IPv4 works: clients that prefer IPv6 fail or wait",
    fix="let the service listen on [::] as well and open port {port} for IPv6 in the firewall, or"
    " remove the AAAA record",
    fixes={
        Software.NGINX: "write listen [::]:{port} ssl; beside listen {port} ssl; and port {port}"
        " open for IPv6 in the firewall; or remove the AAAA record",
        Software.APACHE: "write Listen [::]:{port} beside Listen {port}, and port {port} open for"
        " IPv6 in the firewall; or remove the AAAA record",
        Software.HAPROXY: "write bind :::{port} v4v6, and port {port} open for IPv6 in the"
        " firewall; or remove the AAAA record",
        Software.GATEMAN: "listen on [::]:{port}, which takes IPv4 as well, and open port {port}"
        " for IPv6 in the firewall; or remove the AAAA record",
    },
    fails_for=frozenset({Client.NODE, Client.PYTHON, Client.ANDROID, Client.WECHAT}),
    decided="An AAAA record is refused, rejected or dropped where an A record of the same name is"
    " open, and this machine has IPv6",
    details="Browsers and iOS try IPv4 a quarter of a second later (RFC 8305). Others try one"
    " address after the other: where packets are dropped, they time out before they come to the"
    " one that works. Node before 20 and programs with an old OkHttp take the first address only."
    " If no other IPv6 site opens from this machine either, its own IPv6 is the fault.",
)
ADDRESS_DEAD = _tcp(
    code="ADDRESS_DEAD",
    problem="one of several addresses of {host} leads nowhere ({addresses} port {port}: {reason}),"
    " while {alive} works: some of the clients fail",
    fix="start the service on that machine, or remove its address from the DNS",
    decided="The same port is open on one address of the name, and refused, rejected or dropped on"
    " another of the same kind",
)
CDN_PORT = _tcp(
    code="CDN_PORT",
    problem="Cloudflare, to which {addresses} belongs, does not pass port {port}",
    fix="use 443 (or 2053, 2083, 2087, 2096, 8443; for ws:// 80, 8080, 8880, 2052, 2082, 2086,"
    " 2095), or set the record to `DNS only`",
    decided="The address is in one of Cloudflare's ranges, the port is none that it passes, and no"
    " connection opens",
)

# TLS.

TLS_ON_PLAIN_PORT = _tls(
    code="TLS_ON_PLAIN_PORT",
    problem="port {port} of {addresses} speaks plain HTTP, and wss:// needs TLS",
    fix="turn TLS on for this port, or connect to the port that has it; ws://{authority} is the URL"
    " of this one",
    fixes=_PROXY_WEBSOCKET,
    decided="A ClientHello is not answered with TLS, and a plain HTTP request is answered with"
    " HTTP",
)
PLAIN_ON_TLS_PORT = _tls(
    code="PLAIN_ON_TLS_PORT",
    problem="port {port} of {addresses} speaks TLS, and ws:// is plain",
    fix="connect to wss://{authority}",
    decided="A plain HTTP request is not answered as one (a TLS alert, a 400 that speaks of HTTPS,"
    " or nothing), and a TLS handshake succeeds on the same port",
)
OTHER_PROTOCOL = _tls(
    code="OTHER_PROTOCOL",
    problem="port {port} of {addresses} speaks {protocol}, which is not a web server's",
    fix="connect to the port of the web server; on the server look with: ss -ltnp",
    decided="By the first bytes that the server sends, by itself or in answer to a ClientHello",
)
SERVER_SILENT = _tls(
    code="SERVER_SILENT",
    problem="port {port} of {addresses} accepts connections and then says nothing, neither to TLS"
    " nor to plain HTTP: the process behind it hangs, or it is a proxy whose server does not"
    " answer",
    fix="on the server, see which process it is (ss -ltnp 'sport = :{port}') and what it waits for;"
    " restart it",
    fixes={Software.GATEMAN: "see with gateman status which callback blocks; restart it"},
    decided="TCP opens, and no byte comes within the deadline, whether TLS, plain HTTP or a PROXY"
    " header is sent",
    details="The kernel accepts connections for a process that is stopped, or whose event loop is"
    " blocked, until its queue is full.",
)
TLS_STALLED = _tls(
    code="TLS_STALLED",
    problem="the TLS handshake with {addresses} stops halfway: packets that are too large for the"
    " path are lost (MTU), or something in between holds them back",
    fix="lower the MTU of the server's interface to what the path takes (ip link set dev eth0 mtu"
    " 1400), or have the router clamp the MSS, as VPN, PPPoE and overlay networks need it; ping -M"
    " do -s 1372 {host} finds the size",
    decided="The first bytes of TLS arrive, and the rest of the server's messages does not within"
    " the deadline. The certificates are in the first large packets of a connection",
)
TLS_CLOSED = _tls(
    code="TLS_CLOSED",
    severity=Severity.UNDECIDED,
    problem="port {port} of {addresses} {how} the connection before TLS begins: the server behind"
    " a proxy is down, this client's address is not allowed, or something in between cuts TLS",
    fix="on the server: gateman doctor server.py wss://{authority}; else read the log of what"
    " listens on port {port} at the time of this look",
    decided="TCP opens, and the server ends it without a byte; neither plain HTTP, nor a PROXY"
    " header, nor a hello without the name changes that",
    details="A limit on connections looks the same, and so does a service that has just crashed.",
)
PROXY_HEADER_EXPECTED = _proxy(
    code="PROXY_HEADER_EXPECTED",
    problem="port {port} of {addresses} expects a PROXY header from a load balancer before anything"
    " else, and clients send none",
    fix="turn the PROXY protocol off for this port, or on in the load balancer before it",
    fixes={
        Software.NGINX: "remove proxy_protocol from listen {port}, or send it from the load"
        " balancer",
        Software.HAPROXY: "remove accept-proxy from bind :{port}, or add send-proxy to the load"
        " balancer before it",
        Software.APACHE: "set RemoteIPProxyProtocol Off, or send it from the load balancer",
        Software.GATEMAN: "set trusted_proxies to the load balancer, and connect through it",
    },
    decided="The server ends a connection without a byte, and answers when `PROXY UNKNOWN` is sent"
    " first",
)
SNI_CUT = _tls(
    code="SNI_CUT",
    problem="connections that ask for {host} are cut before TLS begins, while those that name no"
    " domain are not",
    fix="configure this name on the server, or find what filters names on the way; in mainland"
    " China the provider cuts domains without an ICP filing",
    decided="A ClientHello with the name ends in a reset, a close or silence; without a name the"
    " handshake succeeds",
)
SNI_UNKNOWN = _tls(
    code="SNI_UNKNOWN",
    problem="the server at {addresses} has no certificate for {host}, and refuses the name (TLS"
    " alert {alert})",
    fix="add the name, with its certificate, to the server's configuration",
    fixes={
        Software.NGINX: "write server_name {host}; into the server block with its"
        " ssl_certificate, in place of the block with ssl_reject_handshake",
        Software.APACHE: "write ServerName or ServerAlias {host} into the <VirtualHost> with its"
        " SSLCertificateFile",
        Software.HAPROXY: "add a certificate for {host} to bind … ssl crt (or remove strict-sni)",
        Software.CADDY: "name the site {host} in the Caddyfile; if it is there, its certificate"
        " could not be had: see Caddy's log. So answers gateman with acme until its certificate is"
        " issued: see `gateman certificates`",
    },
    decided="The alert is unrecognized_name, or it is another and the handshake succeeds when no"
    " name is asked for. Go's servers, Caddy among them, say internal_error",
)
TLS_OLD = _tls(
    code="TLS_OLD",
    problem="the server at {addresses} speaks no TLS above {version}, and clients need 1.2",
    fix="allow TLS 1.2 and 1.3, with a newer OpenSSL if it has none",
    fixes={
        Software.NGINX: "set ssl_protocols TLSv1.2 TLSv1.3; in the server block, and reload nginx",
        Software.APACHE: "set SSLProtocol -all +TLSv1.2 +TLSv1.3",
        Software.HAPROXY: "set ssl-default-bind-options ssl-min-ver TLSv1.2, and remove"
        " ssl-min-ver from the bind line",
        Software.GATEMAN: 'remove max_proto_version, or set it to "TLSv1.3"',
    },
    decided="TLS 1.2 and 1.3 are refused, an older version is agreed on",
)
TLS_13_ONLY = _tls(
    code="TLS_13_ONLY",
    problem="the server at {addresses} speaks TLS 1.3 only, which older phones and programs do not"
    " have",
    fix="allow TLS 1.2 as well",
    fixes={
        Software.NGINX: "set ssl_protocols TLSv1.2 TLSv1.3; in the server block, and reload nginx",
        Software.APACHE: "set SSLProtocol -all +TLSv1.2 +TLSv1.3",
        Software.CADDY: "set protocols tls1.2 tls1.3 in the tls block",
        Software.HAPROXY: "set ssl-default-bind-options ssl-min-ver TLSv1.2, and remove"
        " ssl-min-ver from the bind line",
        Software.CLOUDFLARE: "set the minimum TLS version to 1.2",
        Software.GATEMAN: 'remove min_proto_version, or set it to "TLSv1.2"',
    },
    fails_for=frozenset({Client.ANDROID, Client.JAVA, Client.WECHAT}),
    decided="TLS 1.3 is agreed on, and TLS 1.2 alone is refused",
    details="Without TLS 1.3: Android before 10, Java 8 before update 261, WeChat on such phones,"
    " Python with an OpenSSL before 1.1.1, iOS before 12.2.",
)
TLS_CIPHERS = _tls(
    code="TLS_CIPHERS",
    problem="the server at {addresses} offers only ciphers, keys or signatures that clients"
    " refuse ({detail})",
    fix="remove the list of ciphers from its configuration, and use a certificate with an ECDSA"
    " P-256 or RSA 2048 key",
    fixes={
        Software.NGINX: "remove ssl_ciphers (and ssl_ecdh_curve), or set ssl_ciphers"
        " HIGH:!aNULL:!MD5;",
        Software.APACHE: "set SSLCipherSuite HIGH:!aNULL:!MD5",
        Software.HAPROXY: "remove ssl-default-bind-ciphers and ciphers from the bind line",
        Software.GATEMAN: "remove ssl.ciphers and ssl.ecdh_curve",
    },
    decided="The handshake fails with what clients offer, and succeeds when everything that OpenSSL"
    " still knows is offered",
)
TLS_ALERT = _tls(
    code="TLS_ALERT",
    severity=Severity.UNDECIDED,
    problem="the server at {addresses} refuses the TLS handshake ({alert})",
    fix="read the server's error log at the time of this look; openssl s_client -connect"
    " {address} -servername {host} shows the same",
    decided="An alert, whatever version, ciphers, name and protocol are offered",
)
TLS_FAILED = _tls(
    code="TLS_FAILED",
    severity=Severity.UNDECIDED,
    problem="the TLS handshake with {addresses} fails ({reason})",
    fix="read the server's error log at the time of this look; openssl s_client -connect"
    " {address} -servername {host} shows the same",
    decided="The server answers in TLS, and its messages are not accepted here",
)
CLIENT_CERTIFICATE_REQUIRED = _tls(
    code="CLIENT_CERTIFICATE_REQUIRED",
    problem="the server at {addresses} lets in only clients that show a certificate of their own",
    fix="turn the verification of clients off, or give the clients certificates; behind Cloudflare"
    " this is `Authenticated Origin Pulls`",
    fixes={
        Software.NGINX: "set ssl_verify_client off; in the server block, and reload nginx",
        Software.APACHE: "set SSLVerifyClient none",
        Software.CADDY: "remove client_auth from tls",
        Software.HAPROXY: "remove verify required from the bind line",
        Software.GATEMAN: "remove verify_peer and cafile from the ssl options",
    },
    decided="The server asks for a certificate, and refuses the client that has none: with an alert"
    " or with a 400 that says so",
)
CLIENT_CERTIFICATE_ASKED = _tls(
    code="CLIENT_CERTIFICATE_ASKED",
    severity=Severity.WARNING,
    problem="the server at {addresses} asks clients for a certificate of their own, so that some"
    " browsers show a dialogue",
    fix="turn the verification of clients off, if the application does not need it",
    fixes={
        Software.NGINX: "set ssl_verify_client off; in the server block, and reload nginx",
        Software.APACHE: "set SSLVerifyClient none",
        Software.CADDY: "remove client_auth from tls",
        Software.HAPROXY: "remove verify optional from the bind line",
    },
    decided="The server asks for a certificate, and goes on without one",
)
ALPN_REFUSED = _tls(
    code="ALPN_REFUSED",
    problem="the server at {addresses} refuses clients that offer http/1.1 by ALPN, and speaks"
    " {protocol} instead",
    fix="offer http/1.1 as well: WebSocket clients need it",
    fixes={
        Software.HAPROXY: "write alpn h2,http/1.1 on the bind line",
        Software.CADDY: "set protocols h1 h2 in the servers block of the global options",
        Software.GATEMAN: "remove ssl.alpn_protocols",
    },
    decided="A handshake that offers http/1.1 ends in the alert no_application_protocol, or h2 is"
    " selected; one that offers something else succeeds",
)
TLS_TWICE = _proxy(
    code="TLS_TWICE",
    problem="behind the TLS of port {port}, the server at {addresses} expects TLS once more: a"
    " proxy already ends it",
    fix="let one of both do TLS: turn it off in the service behind the proxy, or have the proxy"
    " connect to the service by https",
    fixes={
        Software.NGINX: "write proxy_pass https://… in place of http://…, or proxy_ssl on; in a"
        " stream block",
        Software.APACHE: "set SSLProxyEngine on, and write wss:// or https:// in ProxyPass",
        Software.CADDY: "write reverse_proxy https://… in place of http://…",
        Software.HAPROXY: "add ssl verify none to the server line",
        Software.GATEMAN: 'remove worker.transport = "ssl": behind a proxy the worker speaks plain'
        " WebSocket",
    },
    decided="After the TLS handshake, plain HTTP is answered with a TLS alert or a 400 that speaks"
    " of HTTPS, or a second handshake inside the first succeeds",
)
DECLARATIONS = declared_in(globals())
