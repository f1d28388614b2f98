"""
Reads Caddy's configuration in JSON, as ``caddy adapt`` and its admin API give it. PURE.

Source:
    https://caddyserver.com/docs/json/apps/http/ and
    https://caddyserver.com/docs/json/apps/http/servers/routes/handle/reverse_proxy/.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ....findings import Software
from ...target import Target, default_port
from .route import (
    Action,
    ProxyRoute,
    UnreadableConfiguration,
    Upstream,
    all_of,
    any_of,
    host_and_port,
)

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_DEPTH = 32
# Handlers that pass a request on to the next one.
_TRANSPARENT = frozenset(
    {"vars", "encode", "headers", "request_body", "tracing", "map", "templates"}
)


def find_route(
    text: str, target: Target, *, name: str = "Caddy's configuration"
) -> ProxyRoute | None:
    """Tell what Caddy does with a URL; ``None`` if it does not listen on the port."""
    try:
        root = json.loads(text)
    except (ValueError, RecursionError):
        raise UnreadableConfiguration(f"{name} is not JSON") from None
    http = _mapping(_mapping(_mapping(root).get("apps")).get("http"))
    for key, server in _mapping(http.get("servers")).items():
        listens = _list(_mapping(server).get("listen"))
        if any(_listens(one, target.port) for one in listens):
            where = f"{name}, apps.http.servers.{key}"
            return _Reader(target, _mapping(server), where).read()
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _listens(text: object, port: int) -> bool:
    low, _, high = str(text).rpartition(":")[2].partition("-")
    return low.isdigit() and int(low) <= port <= int(high if high.isdigit() else low)


@dataclass(slots=True)
class _Found:
    """What the handlers amount to."""

    where: str
    action: Action
    answer: str = ""
    handler: Mapping[str, Any] = field(default_factory=dict)


class _Reader:
    def __init__(self, target: Target, server: Mapping[str, Any], where: str) -> None:
        self._target = target
        self._server = server
        self._where = where
        self._path = target.bare_path
        self._doubts: list[str] = []
        self._restrictions: list[str] = []
        self._is_named = True

    def read(self) -> ProxyRoute:
        found = self._routes(_list(self._server.get("routes")), f"{self._where}.routes", 0)
        if found is None:
            action = Action.UNKNOWN if self._doubts else Action.ANSWERS
            found = _Found(self._where, action, "an empty 200, as no route matches")
        handler = found.handler
        transport = _mapping(handler.get("transport"))
        is_tls = transport.get("tls") is not None
        sends_proxy = bool(transport.get("proxy_protocol"))
        protocols = _list(self._server.get("protocols"))
        request = _mapping(_mapping(handler.get("headers")).get("request"))
        versions = _list(transport.get("versions"))
        lost = self._lost(request)
        if versions and set(map(str, versions)) <= {"2", "h2c", "3"}:
            lost.append("Upgrade: websocket")
        host = _first(_insensitive(_mapping(request.get("set")), "host"))
        upstreams = [
            _upstream(str(_mapping(one).get("dial", "")), is_tls=is_tls, sends_proxy=sends_proxy)
            for one in _list(handler.get("upstreams"))
        ]
        if handler.get("dynamic_upstreams"):
            self._doubts.append(f"{found.where}: dynamic_upstreams")
        deleted = {str(one).lower() for one in _list(request.get("delete"))}
        return ProxyRoute(
            software=Software.CADDY,
            where=found.where,
            block=str(handler.get("handler", "routes")),
            action=found.action,
            is_named=self._is_named,
            answer=found.answer,
            upstreams=tuple(one for one in upstreams if one is not None),
            lost_fields=tuple(lost),
            idle_timeout=_seconds(transport.get("read_timeout")),
            idle_option="read_timeout of the transport",
            stream_timeout=_seconds(handler.get("stream_timeout")),
            keeps_host=host in {"", "{http.request.host}", "{http.request.hostport}"},
            client_fields=frozenset({"x-forwarded-for"} - deleted),
            is_http2_only=bool(protocols) and "h1" not in protocols,
            restrictions=tuple(self._restrictions),
            doubts=tuple(dict.fromkeys(self._doubts)),
        )

    def _lost(self, request: Mapping[str, Any]) -> list[str]:
        lost = []
        deleted = {str(one).lower() for one in _list(request.get("delete"))}
        for name, whole in (
            ("upgrade", "Upgrade: websocket"),
            ("connection", "Connection: Upgrade"),
        ):
            value = _first(_insensitive(_mapping(request.get("set")), name))
            is_replaced = value and not re.search("upgrade|websocket", value, re.IGNORECASE)
            # Caddy sets both again behind `delete`; only `set` comes after that.
            if is_replaced or (name in deleted and name == "upgrade"):
                lost.append(whole)
        return lost

    def _routes(self, routes: list[Any], where: str, depth: int) -> _Found | None:
        if depth > _MAX_DEPTH:
            raise UnreadableConfiguration(f"{self._where} is nested too deeply")
        groups: set[str] = set()
        for number, one in enumerate(routes):
            route = _mapping(one)
            group = str(route.get("group", ""))
            if group and group in groups:
                continue
            matches = self._matches(_list(route.get("match")))
            place = f"{where}[{number}]"
            if matches is None:
                self._doubts.append(f"{place}.match")
            if not matches:
                continue
            if group:
                groups.add(group)
            found = self._handlers(_list(route.get("handle")), place, depth)
            if found is not None:
                return found
            if route.get("terminal"):
                return _Found(place, Action.ANSWERS, "an empty 200")
        return None

    def _handlers(self, handlers: list[Any], where: str, depth: int) -> _Found | None:
        for one in handlers:
            handler = _mapping(one)
            kind = str(handler.get("handler", ""))
            match kind:
                case "subroute":
                    found = self._routes(_list(handler.get("routes")), f"{where}.routes", depth + 1)
                    if found is not None:
                        return found
                case "reverse_proxy":
                    return _Found(where, Action.PASSES, handler=handler)
                case "static_response":
                    return self._static(handler, where)
                case "file_server":
                    return _Found(where, Action.ANSWERS, "file_server", handler)
                case "authentication":
                    self._restrictions.append("authentication (basic_auth)")
                case "rewrite":
                    self._rewrite(handler, where)
                case _ if kind in _TRANSPARENT:
                    continue
                case _:
                    self._doubts.append(f"{where}: the handler {kind}")
        return None

    def _static(self, handler: Mapping[str, Any], where: str) -> _Found:
        status = str(handler.get("status_code", 200))
        headers = _mapping(handler.get("headers"))
        if status[:1] == "3" or _insensitive(headers, "location"):
            location = _first(_insensitive(headers, "location"))
            return _Found(where, Action.REDIRECTS, f"{status} to {location}", handler)
        if handler.get("abort") or status in {"401", "403"}:
            return _Found(where, Action.DENIES, f"static_response {status}", handler)
        return _Found(where, Action.ANSWERS, f"static_response {status}", handler)

    def _rewrite(self, handler: Mapping[str, Any], where: str) -> None:
        prefix = str(handler.get("strip_path_prefix") or "")
        if prefix and self._path.startswith(prefix):
            self._path = self._path[len(prefix) :] or "/"
        elif set(handler) - {"handler", "strip_path_prefix"}:
            self._doubts.append(f"{where}: rewrite")

    def _matches(self, sets: list[Any]) -> bool | None:
        """Any of the sets has to match; ``None`` if it is not known whether one does."""
        if not sets:
            return True
        return any_of(self._matches_set(_mapping(one)) for one in sets)

    def _matches_set(self, matchers: Mapping[str, Any]) -> bool | None:
        return all_of(self._matches_one(kind, value) for kind, value in matchers.items())

    def _matches_one(self, kind: str, value: Any) -> bool | None:
        target = self._target
        match kind:
            case "host":
                return any(_is_host(str(one), target.host) for one in _list(value))
            case "path":
                return any(_is_path(str(one), self._path) for one in _list(value))
            case "protocol":
                return str(value) in {"https" if target.is_tls else "http", "http/1.1", "http/1"}
            case "method":
                return "GET" in _list(value)
            case "header":
                return self._has_fields(_mapping(value))
            case "path_regexp":
                try:
                    pattern = str(_mapping(value).get("pattern", ""))
                    return re.search(pattern, self._path) is not None
                except re.error:
                    return None
            case "not":
                inner = self._matches(_list(value))
                return None if inner is None else not inner
            case _:
                return None

    def _has_fields(self, fields: Mapping[str, Any]) -> bool | None:
        known = {"upgrade": "websocket", "connection": "upgrade"}
        for name, values in fields.items():
            sent = known.get(name.lower())
            if sent is None:
                return None
            patterns = [str(one).lower() for one in _list(values)]
            if patterns and not any(fnmatchcase(sent, one) for one in patterns):
                return False
        return True


def _is_host(pattern: str, host: str) -> bool:
    if "{" in pattern:
        return False
    parts, labels = pattern.lower().split("."), host.lower().split(".")
    return len(parts) == len(labels) and all(
        part in {"*", label} for part, label in zip(parts, labels, strict=True)
    )


def _is_path(pattern: str, path: str) -> bool:
    pattern, path = pattern.lower(), path.lower()
    if pattern == "*":
        return True
    return fnmatchcase(path, pattern.replace("[", "[[]"))


def _upstream(dial: str, *, is_tls: bool, sends_proxy: bool) -> Upstream | None:
    if dial.startswith("unix/"):
        path = dial.removeprefix("unix/")
        return Upstream(path=path.partition("|")[0], is_tls=is_tls, sends_proxy=sends_proxy)
    try:
        host, port = host_and_port(dial.rpartition("/")[2], default_port(is_tls))
    except ValueError:
        return None
    if "{" in host or not dial:
        return None
    return Upstream(host=host or "127.0.0.1", port=port, is_tls=is_tls, sends_proxy=sends_proxy)


def _insensitive(mapping: Mapping[str, Any], name: str) -> Any:
    return next((value for key, value in mapping.items() if key.lower() == name), None)


def _first(value: Any) -> str:
    return str(value[0]) if isinstance(value, list) and value else str(value or "")


def _seconds(value: object) -> float | None:
    """Read a duration of Go: nanoseconds, or a text such as ``1m30s``; 0 and -1 are none."""
    if isinstance(value, (int, float)):
        return value / 1e9 if value > 0 else None
    total = 0.0
    for number, unit in _parts(str(value or "")):
        total += float(number) * _UNITS[unit]
    return total or None


def _parts(text: str) -> Iterator[tuple[str, str]]:
    yield from re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h|d)", text)
