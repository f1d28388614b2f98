"""
Reads nginx's configuration: which location answers a URL, and what it does. PURE.

Source:
    https://nginx.org/en/docs/http/ngx_http_core_module.html#location, request_processing.html,
    websocket.html and ngx_http_proxy_module.html.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from ....findings import Software
from ...target import Target, default_port
from .directive import Directive, Scopes, search
from .nginx_syntax import parse
from .route import CLIENT_FIELDS, Action, Files, ProxyRoute, Upstream, host_and_port

_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*|[0-9])\}?")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000}
_TIME = re.compile(r"([0-9]+)(ms|[smhdwM])?\s*")

_DEFAULT_TIMEOUT = 60.0  # seconds; of proxy_read_timeout
_STREAM_TIMEOUT = 600.0  # seconds; of proxy_timeout

# Handlers that answer in place of proxy_pass.
_OTHER_HANDLERS = (
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "stub_status",
    "empty_gif",
    "mp4",
    "flv",
)
_LUA = ("content_by_lua", "content_by_lua_block", "content_by_lua_file", "js_content", "perl")
_RESTRICTIONS = (
    "deny",
    "allow",
    "auth_basic",
    "auth_request",
    "auth_jwt",
    "internal",
    "limit_req",
    "limit_conn",
    "limit_except",
    "valid_referers",
)


def find_route(files: Files, target: Target, *, default_version: str = "1.0") -> ProxyRoute | None:
    """Tell what nginx does with a URL; ``None`` if it does not listen on the port."""
    # `default_version` is that of HTTP to the upstream, where no directive says which.
    main = parse(files)
    http = main.last("http")
    servers = list(http.all("server")) if http is not None else []
    listening = [one for one in servers if _listens(one, target)]
    name = main.value("user") or ""
    if http is None or not listening:
        return _stream_route(main, target, name)
    server, is_named = _by_name(listening, target)
    reader = _RouteReader(http, server, target, default_version)
    return reader.read(is_named=is_named, user=name)


def _listens(server: Directive, target: Target) -> bool:
    listens = list(server.all("listen"))
    return any(_port(one) == target.port for one in listens) or (not listens and target.port == 80)


def _port(listen: Directive) -> int:
    text = listen.args[0] if listen.args else "80"
    if text.startswith("unix:"):
        return 0
    try:
        return int(text) if text.isdigit() else host_and_port(text, 80)[1]
    except ValueError:
        return 0


def _by_name(servers: Sequence[Directive], target: Target) -> tuple[Directive, bool]:
    """Find the server block of a name, by nginx's order of precedence."""
    host = target.host.lower()
    best: tuple[int, int, Directive] | None = None
    for server in servers:
        for names in server.all("server_name"):
            for name in names.args:
                rank = _rank(name.lower() if name[:1] != "~" else name, host)
                if rank and (best is None or rank > best[:2]):
                    best = (*rank, server)
    if best is not None:
        return best[2], True
    for server in servers:
        for listen in server.all("listen"):
            if _port(listen) == target.port and {"default_server", "default"} & set(listen.args):
                return server, False
    return servers[0], len(servers) == 1 and _is_catch_all(servers[0])


def _is_catch_all(server: Directive) -> bool:
    names = [name for one in server.all("server_name") for name in one.args]
    return not names or set(names) <= {"_", ""}


def _rank(name: str, host: str) -> tuple[int, int] | None:
    if name == host:
        return 4, 0
    if name.startswith("~"):
        return (1, 0) if search(name[1:], host, ignores_case=True) else None
    if name.startswith("*.") and host.endswith(name[1:]) and host != name[1:]:
        return 3, len(name)
    if name.startswith(".") and (host == name[1:] or host.endswith(name)):
        return (4, 0) if host == name[1:] else (3, len(name))
    if name.endswith(".*") and host.startswith(name[:-1]):
        return 2, len(name)
    return None


class _RouteReader:
    """Finds the location, and reads what it inherits."""

    def __init__(
        self, http: Directive, server: Directive, target: Target, default_version: str
    ) -> None:
        self._http = http
        self._server = server
        self._target = target
        self._default_version = default_version
        self._path = unquote(target.bare_path)
        self._doubts: list[str] = []
        # From the inside out.
        self._scopes = Scopes([server, http])
        self._maps = {
            one.args[1].removeprefix("$"): one for one in http.all("map") if len(one.args) > 1
        }

    def read(self, *, is_named: bool, user: str) -> ProxyRoute:
        answer = self._rewritten(self._server)
        location, chain, _ = self._find(self._server, self._path)
        block = self._server
        if answer is None and location is not None:
            self._scopes = Scopes([*reversed(chain), self._server, self._http])
            block = location
            answer = self._rewritten(location)
            if answer is None:
                block, answer = self._try_files(block)
        if answer is None:
            answer = self._handler(block)
        action, text, upstreams = answer
        timeout = self._scopes.value("proxy_read_timeout")
        lost, version = self._handshake()
        passes = action is Action.PASSES
        return ProxyRoute(
            software=Software.NGINX,
            where=block.where,
            block=str(block) if block is not self._server else "the server block",
            action=action,
            is_named=is_named,
            answer=text,
            upstreams=upstreams,
            http_version=version,
            lost_fields=lost if passes else (),
            idle_timeout=(_DEFAULT_TIMEOUT if timeout is None else _seconds(timeout)),
            idle_option="proxy_read_timeout",
            keeps_host=self._keeps_host(),
            client_fields=self._client_fields(),
            certificates=tuple(
                one.args[0]
                for one in self._scopes.all("ssl_certificate")
                if one.args and self._target.is_tls
            ),
            restrictions=self._restrictions(),
            user=user,
            doubts=tuple(dict.fromkeys(self._doubts)),
        )

    # The location.

    def _find(self, block: Directive, path: str) -> tuple[Directive | None, list[Directive], bool]:
        """Find the location as ngx_http_core_find_location does, and whether that is final."""
        best: Directive | None = None
        regexes = []
        for location in block.all("location"):
            modifier, pattern = _modifier(location)
            if modifier == "=" and pattern == path:
                return location, [location], True
            if modifier in {"", "^~"} and path.startswith(pattern):
                if best is None or len(pattern) > len(_modifier(best)[1]):
                    best = location
            elif modifier in {"~", "~*"}:
                regexes.append((location, pattern, modifier == "~*"))
        chain: list[Directive] = []
        is_final = False
        found = best
        if best is not None:
            nested, below, is_final = self._find(best, path)
            found, chain = nested or best, [best, *below]
            if is_final:
                return found, chain, True
        if best is None or _modifier(best)[0] != "^~":
            for location, pattern, ignores_case in regexes:
                matches = search(pattern, path, ignores_case=ignores_case)
                if matches is None:
                    self._doubts.append(f"{location.where}: {location}")
                elif matches:
                    nested, below, _ = self._find(location, path)
                    return nested or location, [location, *below], True
        return found, chain, False

    def _rewritten(self, block: Directive) -> "_Answer | None":
        """Look at what a block of directives of the rewrite module does."""
        for one in block.children:
            if one.name == "return" and one.args:
                return self._returned(one)
            if one.name == "if":
                holds = self._condition(one)
                if holds:
                    self._scopes.blocks.insert(0, one)
                    inner = self._rewritten(one)
                    if inner is None and one.last("proxy_pass") is not None:
                        inner = self._handler(one)
                    if inner is not None:
                        return inner
                elif holds is None and (one.last("return") or one.last("proxy_pass")):
                    # Without what it compares with, which may be a secret.
                    self._doubts.append(f"{one.where}: if {' '.join(one.args[:1])} …")
            if one.name == "rewrite" and len(one.args) > 1:
                matches = search(one.args[0], self._path)
                flag = one.args[2] if len(one.args) > 2 else ""
                if matches and (flag in {"redirect", "permanent"} or "://" in one.args[1]):
                    return Action.REDIRECTS, f"{one}", ()
                if matches is None or (matches and flag != "break"):
                    self._doubts.append(f"{one.where}: {one}")
        return None

    def _returned(self, one: Directive) -> "_Answer":
        status = one.args[0]
        if not status.isdigit() or status in {"301", "302", "303", "307", "308"}:
            return Action.REDIRECTS, str(one), ()
        action = Action.DENIES if status in {"403", "444", "401"} else Action.ANSWERS
        return action, str(one), ()

    def _condition(self, one: Directive) -> bool | None:
        """Evaluate an ``if`` for a client that opens a WebSocket; ``None`` if that is not known."""
        text = " ".join(one.args).strip()
        text = text.removeprefix("(").removesuffix(")").strip()
        variable, _, rest = text.partition(" ")
        value = self._evaluate(variable)
        if value is None or not variable.startswith("$"):
            return None
        operator, _, operand = rest.strip().partition(" ")
        operand = operand.strip()
        is_negated = operator.startswith("!")
        holds: object = None
        if not operator:
            holds = value not in {"", "0"}
        elif operator in {"=", "!="}:
            holds = value == operand
        elif operator in {"~", "~*", "!~", "!~*"}:
            holds = search(operand, value, ignores_case=operator.endswith("*"))
        return None if holds is None else bool(holds) != is_negated

    def _try_files(self, block: Directive) -> "tuple[Directive, _Answer | None]":
        one = block.last("try_files")
        if one is None or not one.args:
            return block, None
        last = one.args[-1]
        if last.startswith("@"):
            for location in self._server.all("location"):
                if location.args == (last,):
                    self._scopes = Scopes([location, self._server, self._http])
                    return location, self._rewritten(location)
        if block.last("proxy_pass") is not None and not last.startswith(("@", "=", "/")):
            return block, None
        return block, (Action.ANSWERS, f"{one}", ())

    # What it does.

    def _handler(self, block: Directive) -> "_Answer":
        passing = block.last("proxy_pass")
        if passing is not None and passing.args:
            return self._passed(passing)
        for name in _LUA:
            if block.last(name) is not None:
                return Action.UNKNOWN, f"{name} decides", ()
        for name in _OTHER_HANDLERS:
            other = block.last(name)
            if other is not None:
                return Action.ANSWERS, str(other), ()
        if self._doubts:
            return Action.UNKNOWN, self._doubts[-1], ()
        root = self._scopes.value("alias") or self._scopes.value("root")
        where = f"files of {root}" if root else "files"
        return Action.ANSWERS, where, ()

    def _passed(self, passing: Directive) -> "_Answer":
        text = self._expand(passing.args[0])
        scheme, separator, rest = text.partition("://")
        if not separator or "$" in rest.partition("/")[0] or scheme not in {"http", "https"}:
            self._doubts.append(f"{passing.where}: {passing}")
            return Action.PASSES, "", ()
        is_tls = scheme == "https"
        if rest.startswith("unix:"):
            path = rest.removeprefix("unix:").partition(":")[0]
            return Action.PASSES, "", (Upstream(path=path, is_tls=is_tls),)
        name = re.split(r"[/?]", rest, maxsplit=1)[0]
        return Action.PASSES, "", _upstreams(self._http, name, is_tls=is_tls)

    def _handshake(self) -> tuple[tuple[str, ...], str]:
        """Tell which fields of the handshake are lost, and the version of HTTP."""
        version = self._scopes.value("proxy_http_version") or self._default_version
        sent = self._sent_fields()
        upgrade = self._evaluate(sent.get("upgrade", ""))
        connection = self._evaluate(sent.get("connection", "close"))
        lost = []
        if upgrade is not None and upgrade.lower() != "websocket":
            lost.append("Upgrade: websocket")
        if connection is not None and "upgrade" not in connection.lower():
            lost.append("Connection: Upgrade")
        return tuple(lost), version

    def _sent_fields(self) -> dict[str, str]:
        # Inherited only if the level sets none of its own.
        return {
            one.args[0].lower(): one.args[1]
            for one in self._scopes.all("proxy_set_header")
            if len(one.args) > 1
        }

    def _keeps_host(self) -> bool:
        """Tell whether Host, or X-Forwarded-Host, has what the client asked for."""
        sent = self._sent_fields()
        texts = [sent.get("host", "$proxy_host"), sent.get("x-forwarded-host", "$proxy_host")]
        return any(
            "$proxy_host" not in text
            and (self._evaluate(text) or self._target.host).partition(":")[0] == self._target.host
            for text in texts
        )

    def _client_fields(self) -> frozenset[str]:
        sent = self._sent_fields()
        return frozenset(name for name in CLIENT_FIELDS if sent.get(name))

    def _restrictions(self) -> tuple[str, ...]:
        found = [one for name in _RESTRICTIONS for one in self._scopes.all(name)]
        if any(one.name == "limit_except" and "GET" in one.args for one in found):
            found = [one for one in found if one.name != "limit_except"]
        harmless = {("auth_basic", "off"), ("auth_request", "off"), ("allow", "all")}
        kept = [one for one in found if (one.name, *one.args[:1]) not in harmless]
        verify = self._scopes.value("ssl_verify_client")
        texts = [str(one) if one.name != "auth_basic" else "auth_basic" for one in kept]
        if all(one.name == "allow" for one in kept):
            texts = []
        return (*texts, *(["ssl_verify_client on"] if verify == "on" else []))

    # Values.

    def _expand(self, text: str) -> str:
        return _VARIABLE.sub(lambda found: self._variable(found[1], found[0]), text)

    def _evaluate(self, text: str) -> str | None:
        """Fill a text's variables in for a client that opens a WebSocket; ``None`` if unknown."""
        value = self._expand(text)
        return None if "$" in value else value

    def _variable(self, name: str, text: str, depth: int = 0) -> str:
        known = {
            "http_upgrade": "websocket",
            "http_connection": "Upgrade",
            "host": self._target.host,
            "http_host": self._target.authority,
            "scheme": "https" if self._target.is_tls else "http",
            "https": "on" if self._target.is_tls else "",
            "server_port": str(self._target.port),
            "uri": self._path,
            "request_uri": self._target.path,
            "document_uri": self._path,
            "request_method": "GET",
            "server_protocol": "HTTP/1.1",
        }
        if name in known:
            return known[name]
        if depth < 4:
            for scope in self._scopes.blocks:
                for one in scope.all("set"):
                    if len(one.args) == 2 and one.args[0] == f"${name}":
                        return _VARIABLE.sub(
                            lambda found: self._variable(found[1], found[0], depth + 1),
                            one.args[1],
                        )
            if name in self._maps:
                return self._mapped(self._maps[name], text, depth + 1)
        return text

    def _mapped(self, one: Directive, text: str, depth: int) -> str:
        source = _VARIABLE.sub(lambda found: self._variable(found[1], found[0], depth), one.args[0])
        if "$" in source:
            return text
        default, result = "", None
        for entry in one.children:
            value = entry.args[0] if entry.args else ""
            if entry.name == "default":
                default = value
            elif entry.name.startswith("~"):
                pattern = entry.name[1:]
                ignores_case = pattern.startswith("*")
                if result is None and search(
                    pattern.removeprefix("*"), source, ignores_case=ignores_case
                ):
                    result = value
            elif entry.name.lower() == source.lower():
                # An exact value comes before all regular expressions.
                result = value
                break
        chosen = default if result is None else result
        return _VARIABLE.sub(lambda found: self._variable(found[1], found[0], depth), chosen)


_Answer = tuple[Action, str, tuple[Upstream, ...]]


def _modifier(location: Directive) -> tuple[str, str]:
    args = location.args
    if len(args) > 1:
        return args[0], args[1]
    text = args[0] if args else ""
    for modifier in ("^~", "~*", "~", "="):
        if text.startswith(modifier):
            return modifier, text.removeprefix(modifier)
    return ("@", text) if text.startswith("@") else ("", text)


def _upstreams(scope: Directive, name: str, *, is_tls: bool) -> tuple[Upstream, ...]:
    default = default_port(is_tls)
    for block in scope.all("upstream"):
        if block.args == (name,):
            servers = [
                one.args[0] for one in block.all("server") if one.args and "down" not in one.args
            ]
            return tuple(
                found for one in servers if (found := _address(one, default, is_tls=is_tls))
            )
    found = _address(name, default, is_tls=is_tls)
    return () if found is None else (found,)


def _address(text: str, default: int, *, is_tls: bool) -> Upstream | None:
    if text.startswith("unix:"):
        return Upstream(path=text.removeprefix("unix:"), is_tls=is_tls)
    try:
        host, port = host_and_port(text, default)
    except ValueError:
        return None
    return Upstream(host=host, port=port, is_tls=is_tls)


def _stream_route(main: Directive, target: Target, user: str) -> ProxyRoute | None:
    """Look for a server that passes TCP on."""
    stream = main.last("stream")
    for server in stream.all("server") if stream is not None else ():
        listens = [one for one in server.all("listen") if _port(one) == target.port]
        passing = server.last("proxy_pass")
        if stream is None or not listens or passing is None or not passing.args:
            continue
        scopes = Scopes([server, stream])
        is_ending_tls = any("ssl" in one.args for one in listens)
        begins_tls = scopes.value("proxy_ssl") == "on"
        name = passing.args[0]
        doubts = (f"{passing.where}: {passing}",) if "$" in name else ()
        found = () if doubts else _upstreams(stream, name, is_tls=False)
        sends_proxy = scopes.value("proxy_protocol") == "on"
        is_tls = begins_tls or (target.is_tls and not is_ending_tls)
        timeout = scopes.value("proxy_timeout")
        return ProxyRoute(
            software=Software.NGINX,
            where=server.where,
            block=f"stream server, {listens[0]}",
            action=Action.PASSES,
            upstreams=tuple(replace(one, is_tls=is_tls, sends_proxy=sends_proxy) for one in found),
            is_raw=True,
            idle_timeout=_seconds(timeout) if timeout else _STREAM_TIMEOUT,
            idle_option="proxy_timeout",
            certificates=tuple(
                one.args[0] for one in server.all("ssl_certificate") if is_ending_tls
            ),
            user=user,
            doubts=doubts,
        )
    return None


def _seconds(text: str) -> float | None:
    """Read a time such as ``60``, ``1h30m`` or ``500ms``; ``None`` for none."""
    parts = _TIME.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        return None
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
