"""Kinds of findings about certificates and their chains. PURE."""

from functools import partial

from . import Client, Declaration, Severity, Software, Stage, declared_in

_certificate = partial(Declaration, stage=Stage.CERTIFICATE)

_TRUSTING = (
    "Who trusts what: browsers, Android, iOS, Java, Node, Python and WeChat bring roots of their"
    " own, which are nearly the same; certifi's stand for all of them. Roots that are given with"
    " `--ca` count as trusted by all clients."
)

_RENEW = {
    Software.NGINX: "renew it (certbot renew), then nginx -s reload: nginx reads its files only"
    " then",
    Software.APACHE: "renew it (certbot renew), then apachectl graceful: Apache reads its files"
    " only then",
    Software.CADDY: "see Caddy's log for why its renewal failed (port 80 or 443 closed, DNS)",
    Software.HAPROXY: "renew it, put certificate, chain and key into the file of crt, and reload"
    " HAProxy",
    Software.CLOUDFLARE: "renew the edge certificate in the dashboard (SSL/TLS, Edge Certificates)",
    Software.AWS: "renew it in Certificate Manager: its validation record must be in the DNS",
    Software.GATEMAN: "renew it: gateman reads the files of local_cert and local_pk again by"
    " itself; with acme in their place, it also renews the certificate",
}
_FULL_CHAIN = {
    Software.NGINX: "have ssl_certificate name fullchain.pem (certificate, then intermediates), not"
    " cert.pem; then nginx -s reload",
    Software.APACHE: "have SSLCertificateFile name fullchain.pem (certificate, then intermediates),"
    " not cert.pem; then apachectl graceful",
    Software.CADDY: "the first file of the tls directive must hold the certificate, then the"
    " intermediates",
    Software.HAPROXY: "the file of crt must hold the certificate, the intermediates and the key, in"
    " this order",
    Software.AWS: "import the certificate into Certificate Manager with its certificate chain",
    Software.GATEMAN: "have local_cert name fullchain.pem (certificate, then intermediates), not"
    " cert.pem",
}

CERTIFICATE_EXPIRED = _certificate(
    code="CERTIFICATE_EXPIRED",
    problem="{which} has expired on {moment}, and clients refuse it",
    fix="renew it",
    fixes=_RENEW,
    decided="By its dates and this machine's clock",
    details="If the files on the server are newer than what it shows, it has not been told to read"
    " them again.",
)
CERTIFICATE_NOT_VALID_YET = _certificate(
    code="CERTIFICATE_NOT_VALID_YET",
    problem="{which} is valid only from {moment} on, and now it is {now}",
    fix="set this machine's clock, or take a certificate that is valid",
    decided="By its dates and this machine's clock",
)
CERTIFICATE_EXPIRES_SOON = _certificate(
    code="CERTIFICATE_EXPIRES_SOON",
    severity=Severity.WARNING,
    problem="{which} expires on {moment}, in {days}",
    fix="renew it, and see why its renewal did not",
    fails_for=frozenset(),
    decided="Less than 14 days are left, or a sixth of its life if that is less",
)
CERTIFICATE_NOT_ISSUED = _certificate(
    code="CERTIFICATE_NOT_ISSUED",
    problem="a client of {name} has waited in vain for a certificate, which the authority has not"
    " issued yet",
    fix="see what `gateman certificates` and the log say about the order",
    decided="`acme` is set, no certificate was stored for the name, and the order did not end"
    " within `timeouts.handshake`; the client has got the TLS alert internal_error",
)
CLOCK_DIFFERS = _certificate(
    code="CLOCK_DIFFERS",
    problem="this machine's clock says {now} and the server's says {server}{effect}",
    fix="compare date -u on both machines with another one, and set the one that is wrong"
    " (timedatectl set-ntp true); if the server's is, its certificate has to be renewed as well",
    decided="The certificate is not valid by the local clock and valid by the Date field of the"
    " server, which is more than five minutes away. It is a warning if the certificate is valid by"
    " both",
)
CERTIFICATE_NAME = _certificate(
    code="CERTIFICATE_NAME",
    problem="{which} is for {names}, and not for {asked}",
    fix="connect by a name that it is for, or get a certificate for this one",
    fixes={
        Software.NGINX: "write ssl_certificate with a certificate for this name into the server"
        " block whose server_name it is: without such a block nginx shows its default one; or"
        " connect by a name that the certificate is for",
        Software.APACHE: "write SSLCertificateFile with a certificate for this name into the"
        " <VirtualHost> whose ServerName or ServerAlias it is: without such a host Apache shows"
        " its first one; or connect by a name that the certificate is for",
        Software.CADDY: "name the site by this name in the Caddyfile, so that Caddy gets a"
        " certificate for it",
        Software.HAPROXY: "add a certificate for this name to crt (or its crt-list): without one"
        " HAProxy shows the first; or connect by a name that the certificate is for",
        Software.CLOUDFLARE: "a name of two labels below the domain needs an advanced certificate"
        " (SSL/TLS, Edge Certificates)",
        Software.AWS: "add a certificate for this name to the listener's certificate list",
        Software.GATEMAN: "connect by a name that it is for, or give a certificate for this one in"
        " SNI_server_certs",
    },
    details="If the certificate is that of another site, the A or AAAA record may lead to another"
    " server: compare it with the address of the right one.",
    decided="Neither a name nor a wildcard of the certificate (subjectAltName) fits; a wildcard"
    " stands for one label only. An IP address must be among its IP addresses",
)
CERTIFICATE_WITHOUT_NAMES = _certificate(
    code="CERTIFICATE_WITHOUT_NAMES",
    problem="{which} names no domain and no address (subjectAltName), and clients refuse it, as"
    " they no longer read its common name",
    fix="get one that names the domain",
    fails_for=frozenset({Client.BROWSERS, Client.ANDROID, Client.IOS, Client.WECHAT}),
    decided="The extension subjectAltName is missing, or has neither a domain nor an IP address",
    details="Java, Node and Python still compare the common name (subject CN) if there is no such"
    " extension.",
)
CERTIFICATE_SELF_SIGNED = _certificate(
    code="CERTIFICATE_SELF_SIGNED",
    problem="{which} is signed by itself, and clients refuse it unless they were told to trust it",
    fix="get one from a public authority; for development,"
    " `gateman cert dev` makes one and tells how to trust it",
    fixes={
        Software.NGINX: "certbot --nginx gets one from a public authority and sets ssl_certificate;"
        " for development, `gateman cert dev` makes one and tells how to trust it",
        Software.APACHE: "certbot --apache gets one from a public authority and sets"
        " SSLCertificateFile; for development, `gateman cert dev` makes one and tells how to trust"
        " it",
        Software.CADDY: "remove tls internal and local_certs, so that Caddy gets one from a public"
        " authority",
        Software.GATEMAN: "name the domain in acme in place of local_cert, so that the service gets"
        " one from a public authority; for development, `gateman cert dev` makes one and tells how"
        " to trust it",
    },
    decided="Its issuer is its own subject, its own key has signed it, and it is not among the"
    " trusted roots",
    details=_TRUSTING,
)
CERTIFICATE_PRIVATE = _certificate(
    code="CERTIFICATE_PRIVATE",
    problem="{which} is from {issuer}, which is not a public authority",
    fix="have the client trust that authority, or get a certificate from a public one{hint}",
    fixes={
        Software.CADDY: "have the client trust that authority, or remove tls internal and"
        " local_certs, so that Caddy gets a certificate from a public one",
        Software.CLOUDFLARE: "an origin certificate of Cloudflare is trusted by Cloudflare only:"
        " connect through it, with the record proxied",
    },
    decided="The chain ends at an authority that is not among the trusted roots, and nothing says"
    " that it was issued by a public one. With `--ca FILE` the authority counts as trusted",
    details=_TRUSTING,
)
CERTIFICATE_KEY = _certificate(
    code="CERTIFICATE_KEY",
    problem="{which} has a key of type {key}, which {refused_by} refuse",
    fix="get a new one, with a key for ECDSA P-256 or RSA with 2048 bits or more, and SHA-256",
    fails_for=frozenset({Client.BROWSERS, Client.ANDROID, Client.IOS, Client.WECHAT}),
    decided="The key is neither RSA with 2048 bits or more, nor ECDSA P-256 or P-384",
)
CERTIFICATE_DIGEST = _certificate(
    code="CERTIFICATE_DIGEST",
    problem="{which} is signed with {digest}, which clients refuse",
    fix="get a new one, with a key for ECDSA P-256 or RSA with 2048 bits or more, and SHA-256",
    decided="The signature of the certificate, or of an intermediate one, is made with MD5 or"
    " SHA-1",
)
CERTIFICATE_USAGE = _certificate(
    code="CERTIFICATE_USAGE",
    problem="{which} is not for servers by its extended key usage, and clients refuse it",
    fix="get one for servers (serverAuth)",
    decided="It has the extension extKeyUsage, without serverAuth and anyExtendedKeyUsage",
)
CERTIFICATE_LIFE = _certificate(
    code="CERTIFICATE_LIFE",
    problem="{which} lasts {days} days, and {refused_by} take {longest} of {authority}",
    fix="get one that lasts less",
    fails_for=frozenset({Client.BROWSERS, Client.IOS}),
    decided="Of a public authority, 398 days, 200 from 2026-03-15, 100 from 2027-03-15 and 47 from"
    " 2029-03-15 on. Of a private one, Apple's systems take 825 days; more than 398 days are a"
    " note",
)
CERTIFICATE_MALFORMED = _certificate(
    code="CERTIFICATE_MALFORMED",
    severity=Severity.WARNING,
    problem="{which} breaks {part}, and clients that are strict refuse it",
    fix="get a new one",
    fails_for=frozenset(),
    decided="A part of it cannot be read by the standard (RFC 5280), though OpenSSL takes it",
)
CERTIFICATE_REFUSED = _certificate(
    code="CERTIFICATE_REFUSED",
    problem="{which} is refused: {reason}",
    fix="get a new certificate with its chain from the authority",
    decided="OpenSSL does not verify the chain, for a reason that no other code names",
)
CHAIN_INCOMPLETE = _certificate(
    code="CHAIN_INCOMPLETE",
    problem="{which} is from {issuer}, whose own certificate is not sent with it, and {refusal}",
    fix="append it; of Let's Encrypt's files, take fullchain.pem and not cert.pem",
    fixes=_FULL_CHAIN,
    fails_for=frozenset(
        {Client.ANDROID, Client.JAVA, Client.NODE, Client.PYTHON, Client.WECHAT},
    ),
    decided="No certificate that the server shows has signed the last one of the chain, which is"
    " not from a trusted root either",
    details="Browsers and Apple's systems download a missing certificate if the other one says"
    " where it is (authorityInfoAccess), or remember it from another site; without that, they"
    " fail, too.",
)
CHAIN_EXPIRED = _certificate(
    code="CHAIN_EXPIRED",
    problem="{which} has expired on {moment}, and {refused_by} refuse it",
    fix="get the chain anew from the authority",
    fixes=_FULL_CHAIN,
    decided="An intermediate certificate has expired by this machine's clock. It is a cause if no"
    " way to a trusted root goes without it, and else a warning",
)
CHAIN_WITHOUT_ISSUER = _certificate(
    code="CHAIN_WITHOUT_ISSUER",
    severity=Severity.NOTE,
    problem="{which} is from {issuer}, whose own certificate is not in the file",
    fix="append it, unless it is a root that your clients were told to trust",
    fails_for=frozenset(),
    decided="The certificate is from a private authority, and none of the file has signed it;"
    " whether clients know its issuer is not known here",
)
CHAIN_FOREIGN = _certificate(
    code="CHAIN_FOREIGN",
    severity=Severity.NOTE,
    problem="{which} is followed by others that have not signed it (number {numbers})",
    fix="keep only those that lead from it to its root",
    fixes=_FULL_CHAIN,
    fails_for=frozenset(),
    decided="A certificate that the server shows is not on the way of signatures up from its own."
    " If the own one's issuer is missing, they are those of another certificate",
)
CHAIN_ORDER = _certificate(
    code="CHAIN_ORDER",
    severity=Severity.WARNING,
    problem="{which} is followed by its chain in the wrong order, which some refuse",
    fix="put them in this order: number {numbers}",
    fails_for=frozenset(),
    decided="The signatures lead from each certificate to one that does not come next",
    details="RFC 5246 asks for the order; RFC 8446 and the usual clients put up with another one,"
    " embedded devices do not.",
)
CHAIN_ROOT = _certificate(
    code="CHAIN_ROOT",
    severity=Severity.NOTE,
    problem="{which} is followed by its root (number {number}), which clients have already, and"
    " which each handshake sends in vain",
    fix="leave the root out",
    fails_for=frozenset(),
    decided="The last certificate of the chain has signed itself",
)
DECLARATIONS = declared_in(globals())
