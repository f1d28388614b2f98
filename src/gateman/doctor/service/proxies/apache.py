"""
Reads Apache's configuration: which virtual host and rule get a URL, and what they do. PURE.

Rewrite rules come before ProxyPass, ProxyPass in a Location before that of the virtual host, and of
those the first that matches.

Source:
    https://httpd.apache.org/docs/2.4/mod/mod_proxy.html, mod_rewrite.html, core.html and
    https://httpd.apache.org/docs/2.4/sections.html.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from ....findings import Software
from ...target import Target
from .apache_syntax import parse
from .directive import Directive, Scopes, search
from .route import Action, Files, Known, ProxyRoute, Upstream, all_of, host_and_port

_DEFAULT_TIMEOUT = 60.0  # seconds; Timeout
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_UNITS = {"ms": 0.001, "s": 1, "mi": 60, "h": 3600}


def find_route(files: Files, target: Target) -> ProxyRoute | None:
    """Tell what Apache does with a URL; ``None`` if it does not listen on the port."""
    main = parse(files)
    hosts = [one for one in main.all("virtualhost") if _has_port(one, target.port)]
    if not hosts:
        if not any(_port(one.args[0]) == target.port for one in main.all("listen") if one.args):
            return None
        return _Reader(main, main, target).read(is_named=False)
    for host in hosts:
        if _is_named(host, target.host.lower()):
            return _Reader(main, host, target).read(is_named=True)
    is_only = len(hosts) == 1 and hosts[0].value("servername") is None
    return _Reader(main, hosts[0], target).read(is_named=is_only)


def _has_port(host: Directive, port: int) -> bool:
    return any(_port(one) in {port, 0} for one in host.args)


def _port(text: str) -> int:
    """Read a port; 0 for any."""
    _, colon, port = text.rpartition(":")
    if "]" in port or (not colon and not text.isdigit()):
        return 0
    return int(port) if port.isdigit() else 0


def _is_named(host: Directive, name: str) -> bool:
    names = [one.partition("://")[2] or one for one in [host.value("servername") or ""]]
    names = [one.partition(":")[0] for one in names]
    names += [one for alias in host.all("serveralias") for one in alias.args]
    return any(fnmatchcase(name, one.lower()) for one in names if one)


class _Reader:
    def __init__(self, main: Directive, host: Directive, target: Target) -> None:
        self._main = main
        self._host = host
        self._target = target
        self._path = unquote(target.bare_path)
        self._doubts: list[str] = []
        scopes = [host, main] if host is not main else [main]
        # In the order of the file; those of the virtual host come after the main server's.
        self._locations = [
            one
            for scope in reversed(scopes)
            for one in scope.children
            if one.name in {"location", "locationmatch"} and _covers(one, self._path)
        ]
        self._scopes = Scopes([*reversed(self._locations), *scopes])

    def read(self, *, is_named: bool) -> ProxyRoute:
        found = self._rewritten() or self._passed() or self._redirected()
        if found is None:
            root = self._scopes.value("documentroot") or "its DocumentRoot"
            action = Action.UNKNOWN if self._doubts else Action.ANSWERS
            found = _Found(self._host, action, f"files of {root}")
        lost: tuple[str, ...] = ()
        if found.action is Action.PASSES and not found.passes_upgrade:
            lost = ("Upgrade: websocket", "Connection: Upgrade")
        if self._unset("upgrade"):
            lost = ("Upgrade: websocket",)
        timeout = max(
            _seconds(self._scopes.value("timeout") or "") or _DEFAULT_TIMEOUT,
            found.timeout or _seconds(self._scopes.value("proxytimeout") or "") or 0,
        )
        protocols = [one for line in self._scopes.all("protocols") for one in line.args]
        has_http1 = not protocols or "http/1.1" in (one.lower() for one in protocols)
        version = "1.0" if self._has_environment("force-proxy-request-1.0") else "1.1"
        # It sends X-Forwarded-Host as well, which the service takes in place of Host.
        adds = (self._scopes.value("proxyaddheaders") or "on").lower() == "on"
        return ProxyRoute(
            software=Software.APACHE,
            where=found.rule.where,
            block=_short(found.rule),
            action=found.action,
            is_named=is_named,
            answer=found.answer,
            upstreams=found.upstreams,
            http_version=version,
            lost_fields=lost,
            idle_timeout=timeout,
            idle_option="timeout= of ProxyPass, or Timeout",
            keeps_host=adds or (self._scopes.value("proxypreservehost") or "off").lower() == "on",
            client_fields=frozenset({"x-forwarded-for"} if adds else ()),
            certificates=tuple(
                one.args[0] for one in self._scopes.all("sslcertificatefile") if one.args
            ),
            is_http2_only=not has_http1,
            missing=self._missing(found) if found.action is Action.PASSES else "",
            restrictions=self._restrictions(),
            user=self._main.value("user") or "",
            doubts=tuple(dict.fromkeys(self._doubts)),
        )

    # mod_rewrite

    def _rewritten(self) -> "_Found | None":
        for scope in [*reversed(self._locations), self._host]:
            if (scope.value("rewriteengine") or "off").lower() != "on":
                continue
            conditions: list[Directive] = []
            for one in scope.children:
                if one.name == "rewritecond":
                    conditions.append(one)
                elif one.name == "rewriterule" and len(one.args) > 1:
                    found = self._rule(one, conditions)
                    conditions = []
                    if found is not None:
                        return found
        return None

    def _rule(self, rule: Directive, conditions: Sequence[Directive]) -> "_Found | None":
        flags = _flags(rule.args[2] if len(rule.args) > 2 else "")
        pattern, substitution = rule.args[0], rule.args[1]
        is_negated = pattern.startswith("!")
        match = search(pattern.removeprefix("!"), self._path, ignores_case="NC" in flags)
        holds = all_of(
            [None if match is None else bool(match) != is_negated, self._hold(conditions)]
        )
        if holds is None:
            self._doubts.append(f"{rule.where}: {rule}")
        if not holds:
            return None
        result = substitution
        if match:
            groups = [match[0], *match.groups()]
            result = re.sub(
                r"\$(\d)",
                lambda found: (groups[int(found[1])] or "") if int(found[1]) < len(groups) else "",
                substitution,
            )
        if {"F", "FORBIDDEN"} & flags:
            return _Found(rule, Action.DENIES, str(rule))
        is_redirect = any(one.split("=")[0] in {"R", "REDIRECT"} for one in flags)
        is_url = "://" in result.partition("?")[0]
        if is_redirect or (is_url and not {"P", "PROXY"} & flags):
            return _Found(rule, Action.REDIRECTS, str(rule))
        if {"P", "PROXY"} & flags:
            return self._proxied(rule, result, {})
        if result not in {"-", ""}:
            self._path = result if result.startswith("/") else self._path
        return None

    def _hold(self, conditions: Sequence[Directive]) -> Known:
        result: Known = True
        group: Known = False
        is_or = False
        for one in conditions:
            value = self._holds(one)
            flags = _flags(one.args[2] if len(one.args) > 2 else "")
            value = value if not is_or else (True if group or value else group and value)
            is_or = bool({"OR", "ORNEXT"} & flags)
            if is_or:
                group = value
            else:
                result = all_of((result, value))
        return result

    def _holds(self, condition: Directive) -> Known:
        if len(condition.args) < 2:
            return None
        target = self._target
        known = {
            "http:upgrade": "websocket",
            "http:connection": "Upgrade",
            "http_host": target.authority,
            "http:host": target.authority,
            "server_name": target.host,
            "server_port": str(target.port),
            "request_uri": self._path,
            "request_method": "GET",
            "query_string": target.path.partition("?")[2],
            "https": "on" if target.is_tls else "off",
            "request_scheme": "https" if target.is_tls else "http",
            "server_protocol": "HTTP/1.1",
        }
        subject = re.sub(
            r"%\{([^}]+)\}",
            lambda found: known.get(found[1].lower(), found[0]),
            condition.args[0],
        )
        pattern = condition.args[1]
        if "%{" in subject or pattern.removeprefix("!").startswith("-"):
            return None
        flags = _flags(condition.args[2] if len(condition.args) > 2 else "")
        is_negated = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        if pattern.startswith("="):
            text = pattern[1:].strip('"')
            holds = (text.lower() == subject.lower()) if "NC" in flags else text == subject
            return holds != is_negated
        match = search(pattern, subject, ignores_case="NC" in flags)
        return None if match is None else bool(match) != is_negated

    # mod_proxy

    def _passed(self) -> "_Found | None":
        for location in reversed(self._locations):
            for one in location.children:
                if one.name in {"proxypass", "proxypassmatch"} and one.args:
                    if one.args[0] == "!":
                        return None
                    return self._proxied(one, one.args[0], _parameters(one.args[1:]))
        rules = [
            *self._host.children,
            *(self._main.children if self._host is not self._main else ()),
        ]
        for one in rules:
            if one.name not in {"proxypass", "proxypassmatch"} or len(one.args) < 2:
                continue
            path, url = one.args[0], one.args[1]
            if one.name == "proxypassmatch":
                match = search(path, self._path)
                if match is None:
                    self._doubts.append(f"{one.where}: {one}")
                is_match = bool(match)
            else:
                is_match = _begins(self._path, path)
            if is_match:
                return None if url == "!" else self._proxied(one, url, _parameters(one.args[2:]))
        return self._handled()

    def _handled(self) -> "_Found | None":
        """Look for ``SetHandler "proxy:…"``, as PHP has it."""
        for scope in self._scopes.blocks:
            handler = scope.value("sethandler")
            if handler is not None and handler.startswith("proxy:"):
                [rule, *_] = scope.all("sethandler")
                return self._proxied(rule, handler.removeprefix("proxy:"), {})
        return None

    def _proxied(self, rule: Directive, url: str, parameters: dict[str, str]) -> "_Found":
        text, path = url, ""
        if url.startswith("unix:"):
            path, _, text = url.removeprefix("unix:").partition("|")
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        name = rest.partition("/")[0]
        if scheme == "balancer":
            return self._balanced(rule, name, parameters)
        if scheme not in _PORTS:
            return _Found(rule, Action.ANSWERS, f"{scheme or 'something else'} answers")
        passes = scheme in {"ws", "wss"} or parameters.get("upgrade", "").lower() in {
            "websocket",
            "any",
        }
        is_tls = scheme in {"https", "wss"}
        found = _Found(rule, Action.PASSES, passes_upgrade=passes)
        found.timeout = _seconds(parameters.get("timeout", ""))
        found.is_websocket = scheme in {"ws", "wss"}
        upstream = self._upstream(name, path, scheme, is_tls=is_tls)
        if upstream is None:
            self._doubts.append(f"{rule.where}: {rule}")
        else:
            found.upstreams = (upstream,)
        return found

    def _upstream(self, name: str, path: str, scheme: str, *, is_tls: bool) -> Upstream | None:
        if path:
            return Upstream(path=path, is_tls=is_tls)
        try:
            host, port = host_and_port(name, _PORTS[scheme])
        except ValueError:
            return None
        return None if "%" in host or "$" in host else Upstream(host=host, port=port, is_tls=is_tls)

    def _balanced(self, rule: Directive, name: str, parameters: dict[str, str]) -> "_Found":
        members: list[_Found] = []
        for scope in (self._host, self._main):
            for block in scope.all("proxy"):
                if [one.rstrip("/") for one in block.args] == [f"balancer://{name}"]:
                    members += [
                        self._proxied(one, one.args[0], {**parameters, **_parameters(one.args[1:])})
                        for one in block.all("balancermember")
                        if one.args
                    ]
        found = _Found(rule, Action.PASSES)
        found.upstreams = tuple(one for member in members for one in member.upstreams)
        found.is_websocket = any(one.is_websocket for one in members)
        found.passes_upgrade = bool(members) and all(one.passes_upgrade for one in members)
        if not members:
            self._doubts.append(f"{rule.where}: {rule}")
            found.passes_upgrade = True
        return found

    def _redirected(self) -> "_Found | None":
        for scope in self._scopes.blocks:
            for one in scope.children:
                names = {"redirect", "redirectpermanent", "redirecttemp", "redirectmatch"}
                if one.name not in names:
                    continue
                args = [word for word in one.args if word not in {"permanent", "temp", "seeother"}]
                args = [word for word in args if not word.isdigit()]
                if one.name == "redirectmatch":
                    is_match = bool(args and search(args[0], self._path))
                else:
                    is_match = len(args) == 1 or bool(args and _begins(self._path, args[0]))
                if is_match:
                    return _Found(one, Action.REDIRECTS, str(one))
        return None

    # Values.

    def _unset(self, field: str) -> bool:
        return any(
            one.args[:1] == ("unset",) and len(one.args) == 2 and one.args[1].lower() == field
            for scope in self._scopes.blocks
            for one in scope.all("requestheader")
        )

    def _has_environment(self, name: str) -> bool:
        lines = [one for scope in self._scopes.blocks for one in scope.all("setenv")]
        return any(one.args[:1] == (name,) for one in lines)

    def _missing(self, found: "_Found") -> str:
        """Name the module or the line without which Apache answers 500."""
        modules = {
            one.args[0].removesuffix("_module") for one in self._main.all("loadmodule") if one.args
        }
        schemes = {"proxy_http"} if not found.is_websocket else {"proxy_http", "proxy_wstunnel"}
        if modules and not modules & schemes:
            return "the module proxy_http (a2enmod proxy_http)"
        is_on = (self._scopes.value("sslproxyengine") or "off").lower() == "on"
        is_tls = any(one.is_tls for one in found.upstreams)
        return "the line `SSLProxyEngine on`" if is_tls and not is_on else ""

    def _restrictions(self) -> tuple[str, ...]:
        found: list[str] = []
        for location in self._locations:
            requires = [
                one
                for block in (location, *location.all("requireall"))
                for one in block.all("require")
            ]
            rules = [str(one) for one in requires]
            if "require all granted" in rules:
                found = []
            found += [one for one in rules if one != "require all granted"]
            found += [str(one) for one in (*location.all("deny"), *location.all("authtype"))]
        if self._scopes.value("sslverifyclient") in {"require", "Require"}:
            found.append("SSLVerifyClient require")
        return tuple(one.replace("require", "Require", 1) for one in found)


@dataclass(slots=True)
class _Found:
    rule: Directive
    action: Action
    answer: str = ""
    upstreams: tuple[Upstream, ...] = ()
    passes_upgrade: bool = False
    is_websocket: bool = False
    timeout: float | None = None


_NAMES = {
    "proxypass": "ProxyPass",
    "proxypassmatch": "ProxyPassMatch",
    "rewriterule": "RewriteRule",
    "sethandler": "SetHandler",
    "virtualhost": "<VirtualHost",
}


def _short(rule: Directive) -> str:
    if not rule.name:
        return "the main server"
    text = " ".join((_NAMES.get(rule.name, rule.name), *rule.args))
    return f"{text}>" if rule.name == "virtualhost" else text


def _covers(location: Directive, path: str) -> bool:
    args = location.args
    if not args:
        return False
    if location.name == "locationmatch" or args[0] == "~":
        return bool(search(args[-1], path))
    if "*" in args[0] or "?" in args[0]:
        return fnmatchcase(path, args[0])
    return _begins(path, args[0])


def _begins(path: str, prefix: str) -> bool:
    """Compare whole segments, unless the prefix ends in a slash."""
    if not path.startswith(prefix):
        return False
    rest = path[len(prefix) :]
    return not rest or prefix.endswith("/") or rest.startswith("/")


def _flags(text: str) -> set[str]:
    return {one.strip().upper() for one in text.strip("[]").split(",") if one.strip()}


def _parameters(words: Sequence[str]) -> dict[str, str]:
    return {
        name.lower(): value
        for name, equals, value in (one.partition("=") for one in words)
        if equals
    }


def _seconds(text: str) -> float | None:
    match = re.fullmatch(r"([0-9]+)(ms|s|mi|h)?", text)
    return None if match is None else float(match[1]) * _UNITS[match[2] or "s"]
