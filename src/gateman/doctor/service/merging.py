"""Puts what was seen from outside and from inside together: each cause is told once. PURE."""

from collections.abc import Iterable

from ...findings import Finding, Severity, acme, handshakes, lasting, network, services

# What is seen from outside of what the proxy's configuration, or the service, tells exactly.
_EFFECTS: dict[str, set[str]] = {
    inside.code: {one.code for one in outside}
    for inside, *outside in (
        (
            services.PROXY_ANSWERS_ITSELF,
            handshakes.PATH_NOT_FOUND,
            handshakes.PAGE_ANSWERS,
            handshakes.SUCCESS_WITHOUT_UPGRADE,
            handshakes.WEBSOCKET_UNSUPPORTED,
            handshakes.WRONG_SERVICE,
            handshakes.FORBIDDEN,
        ),
        (
            services.PROXY_NAME_UNKNOWN,
            handshakes.HOST_UNKNOWN,
            handshakes.PATH_NOT_FOUND,
            handshakes.PAGE_ANSWERS,
            handshakes.FORBIDDEN,
            handshakes.REDIRECTED,
        ),
        (
            services.PROXY_REDIRECTS,
            handshakes.REDIRECTED,
            handshakes.REDIRECT_SLASH,
            handshakes.REDIRECT_TO_TLS,
        ),
        (services.PROXY_INCOMPLETE, handshakes.SERVER_FAILED),
        (services.PROXY_DENIES, handshakes.FORBIDDEN),
        (
            services.PROXY_LEADS_ELSEWHERE,
            handshakes.PATH_NOT_FOUND,
            handshakes.PAGE_ANSWERS,
            handshakes.SUCCESS_WITHOUT_UPGRADE,
            handshakes.WEBSOCKET_UNSUPPORTED,
            handshakes.WRONG_SERVICE,
            handshakes.UPSTREAM_ANSWERS_NOT_HTTP,
        ),
        (services.LISTENS_ON_LOOPBACK_ONLY, network.LISTENS_ON_LOOPBACK, network.TCP_REFUSED),
        (services.LISTENS_ON_IPV4_ONLY, network.IPV6_DEAD),
        (services.LISTENS_ELSEWHERE, network.TCP_REFUSED),
        (services.SERVICE_NOT_RUNNING, network.TCP_REFUSED, handshakes.UPSTREAM_DOWN),
        (
            services.PROCESS_ENDED,
            handshakes.APPLICATION_FAILED,
            handshakes.APPLICATION_UNDECIDED,
            handshakes.APPLICATION_BLOCKS,
            network.TCP_REFUSED,
            network.SERVER_SILENT,
        ),
        (services.SERVICE_CHANGED, network.TCP_REFUSED, handshakes.UPSTREAM_DOWN),
        (handshakes.SERVER_DRAINING, network.TCP_REFUSED, handshakes.UPSTREAM_DOWN),
        # Its sockets are open, and nobody accepts.
        *(
            (
                one,
                handshakes.APPLICATION_BLOCKS,
                handshakes.APPLICATION_UNDECIDED,
                network.SERVER_SILENT,
            )
            for one in (services.SERVICE_BLOCKED, services.SERVICE_STARTING)
        ),
        *(
            (
                one,
                network.TCP_REFUSED,
                network.SERVER_SILENT,
                handshakes.APPLICATION_BLOCKS,
                handshakes.APPLICATION_UNDECIDED,
                handshakes.UPSTREAM_DOWN,
            )
            for one in (services.SERVICE_CRASHES, services.SERVICE_UNSTABLE)
        ),
        (services.BUSINESS_MISSING, handshakes.APPLICATION_REFUSED),
        (services.PROXY_IDLE_TIMEOUT, lasting.IDLE_CUT),
        (handshakes.PEER_SPOKE_PLAIN, network.TLS_TWICE),
        # As a cause, each of them says why clients wait, and then get an alert.
        *((one, network.SNI_UNKNOWN, network.SERVER_SILENT) for one in acme.DECLARATIONS),
    )
}


def merge(outside: Iterable[Finding], inside: Iterable[Finding]) -> list[Finding]:
    """Join findings: of two about one thing, the one from inside names the line to change."""
    # What was undecided from outside is decided by a cause that was found inside.
    seen = list(outside)
    worse = {one.code for one in seen if one.severity is Severity.CAUSE}
    # Only from outside is it known which roots clients trust.
    kept = [one for one in inside if one.severity is Severity.CAUSE or one.code not in worse]
    causes = [one.code for one in kept if one.severity is Severity.CAUSE]
    told = {one.code for one in kept}.union(*(_EFFECTS.get(code, ()) for code in causes))
    found = [
        one
        for one in seen
        if one.code not in told and not (causes and one.severity is Severity.UNDECIDED)
    ]
    # A cause that is seen from outside decides what the service itself could not.
    if any(one.severity is Severity.CAUSE for one in found):
        kept = [one for one in kept if one.severity is not Severity.UNDECIDED]
    return [*kept, *found]
