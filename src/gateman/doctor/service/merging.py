"""Puts what was seen from outside and from inside together: each cause is told once. PURE."""

from collections.abc import Iterable

from ...findings import Finding, Severity, acme, handshakes, lasting, network, services

# What is seen from outside of what the proxy's configuration, or the service, tells exactly.
_EFFECTS: dict[str, frozenset[str]] = {
    services.PROXY_ANSWERS_ITSELF.code: frozenset(
        {
            handshakes.PATH_NOT_FOUND.code,
            handshakes.PAGE_ANSWERS.code,
            handshakes.SUCCESS_WITHOUT_UPGRADE.code,
            handshakes.WEBSOCKET_UNSUPPORTED.code,
            handshakes.WRONG_SERVICE.code,
            handshakes.FORBIDDEN.code,
        }
    ),
    services.PROXY_NAME_UNKNOWN.code: frozenset(
        {
            handshakes.HOST_UNKNOWN.code,
            handshakes.PATH_NOT_FOUND.code,
            handshakes.PAGE_ANSWERS.code,
            handshakes.FORBIDDEN.code,
            handshakes.REDIRECTED.code,
        }
    ),
    services.PROXY_REDIRECTS.code: frozenset(
        {
            handshakes.REDIRECTED.code,
            handshakes.REDIRECT_SLASH.code,
            handshakes.REDIRECT_TO_TLS.code,
        }
    ),
    services.PROXY_INCOMPLETE.code: frozenset({handshakes.SERVER_FAILED.code}),
    services.PROXY_DENIES.code: frozenset({handshakes.FORBIDDEN.code}),
    services.PROXY_LEADS_ELSEWHERE.code: frozenset(
        {
            handshakes.PATH_NOT_FOUND.code,
            handshakes.PAGE_ANSWERS.code,
            handshakes.SUCCESS_WITHOUT_UPGRADE.code,
            handshakes.WEBSOCKET_UNSUPPORTED.code,
            handshakes.WRONG_SERVICE.code,
            handshakes.UPSTREAM_ANSWERS_NOT_HTTP.code,
        }
    ),
    services.LISTENS_ON_LOOPBACK_ONLY.code: frozenset(
        {network.LISTENS_ON_LOOPBACK.code, network.TCP_REFUSED.code}
    ),
    services.LISTENS_ON_IPV4_ONLY.code: frozenset({network.IPV6_DEAD.code}),
    services.LISTENS_ELSEWHERE.code: frozenset({network.TCP_REFUSED.code}),
    services.SERVICE_NOT_RUNNING.code: frozenset(
        {network.TCP_REFUSED.code, handshakes.UPSTREAM_DOWN.code}
    ),
    services.SERVICE_BLOCKED.code: frozenset(
        {handshakes.APPLICATION_BLOCKS.code, network.SERVER_SILENT.code}
    ),
    services.BUSINESS_MISSING.code: frozenset({handshakes.APPLICATION_REFUSED.code}),
    services.PROXY_IDLE_TIMEOUT.code: frozenset({lasting.IDLE_CUT.code}),
    handshakes.PEER_SPOKE_PLAIN.code: frozenset({network.TLS_TWICE.code}),
    # As a cause, each of them says why clients wait, and then get an alert.
    **dict.fromkeys(
        (one.code for one in acme.DECLARATIONS),
        frozenset({network.SNI_UNKNOWN.code, network.SERVER_SILENT.code}),
    ),
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
