"""
Reads HAProxy's configuration: which backend gets a URL, and how. PURE.

Source:
    HAProxy's configuration manual, sections 4.2 (timeouts), 5.1 (bind), 5.2 (server)
    and 7 (ACLs).
"""

import re
from collections.abc import Iterator, Sequence

from ....findings import Software
from ...target import Target
from .haproxy_syntax import Section, parse
from .route import Action, Files, ProxyRoute, Upstream, all_of, any_of, host_and_port

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}


def find_route(files: Files, target: Target) -> ProxyRoute | None:
    """Tell what HAProxy does with a URL; ``None`` if it does not listen on the port."""
    sections = parse(files)
    for section in sections:
        if section.kind not in {"frontend", "listen"}:
            continue
        for _, words in section.all("bind"):
            if words and target.port in _ports(words[0]):
                return _Reader(sections, section, words, target).read()
    return None


def _ports(text: str) -> list[int]:
    ports: list[int] = []
    for one in text.split(","):
        low, _, high = one.rpartition(":")[2].partition("-")
        if low.isdigit():
            ports += range(int(low), int(high) + 1 if high.isdigit() else int(low) + 1)
    return ports


class _Reader:
    def __init__(
        self, sections: list[Section], frontend: Section, bind: Sequence[str], target: Target
    ) -> None:
        self._sections = sections
        self._frontend = frontend
        self._bind = bind
        self._target = target
        self._doubts: list[str] = []
        self._is_http = frontend.value("mode") == "http"
        self._ends_tls = "ssl" in bind

    def read(self) -> ProxyRoute:
        frontend = self._frontend
        rule = self._ruled()
        where, block, backend = self._backend()
        action, answer = Action.PASSES, ""
        upstreams: tuple[Upstream, ...] = ()
        if rule is not None:
            action, answer, where = rule
        elif backend is None:
            action = Action.UNKNOWN if self._doubts else Action.ANSWERS
            answer = "503, as no backend is chosen"
        else:
            upstreams = self._upstreams(backend)
        chosen = backend or frontend
        is_http = self._is_http and (backend is None or chosen.value("mode") == "http")
        option, timeout = self._timeout(chosen)
        users = [one.value("user") for one in self._sections if one.kind == "global"]
        forwards = [frontend, chosen]
        return ProxyRoute(
            software=Software.HAPROXY,
            where=where,
            block=block,
            action=action,
            answer=answer,
            upstreams=upstreams,
            lost_fields=self._lost(chosen) if is_http else (),
            is_raw=not is_http,
            idle_timeout=timeout,
            idle_option=option,
            client_fields=frozenset(
                {"x-forwarded-for"}
                if any(one.has("option", "forwardfor") for one in forwards)
                else self._set_fields(forwards)
            ),
            certificates=tuple(
                self._bind[at + 1]
                for at, word in enumerate(self._bind[:-1])
                if word == "crt" and self._ends_tls
            ),
            is_http2_only=self._is_http2_only(),
            restrictions=tuple(self._restrictions(forwards)),
            user=next((one for one in users if one), ""),
            doubts=tuple(dict.fromkeys(self._doubts)),
        )

    def _ruled(self) -> tuple[Action, str, str] | None:
        """Find a rule of the frontend that answers before a backend is chosen."""
        for where, words in self._frontend.lines:
            text = _without_condition(words)
            is_request = words[0] in {"http-request", "tcp-request"}
            if is_request and {"deny", "reject"} & set(words[1:3]):
                verdict = Action.DENIES
            elif words[0] == "redirect" or words[:2] == ("http-request", "redirect"):
                verdict = Action.REDIRECTS
            elif words[:2] == ("http-request", "return"):
                verdict = Action.ANSWERS
            else:
                continue
            if self._holds(words):
                return verdict, text, where
        return None

    def _backend(self) -> tuple[str, str, Section | None]:
        frontend = self._frontend
        if frontend.kind == "listen":
            return frontend.where, f"listen {frontend.name}", frontend
        for where, words in frontend.all("use_backend"):
            holds = self._holds(words)
            if holds:
                return where, f"use_backend {words[0]}", self._named(words[0], where)
            if holds is None:
                self._doubts.append(f"{where}: {_without_condition(('use_backend', *words))}")
        name = frontend.value("default_backend")
        if name is None:
            return frontend.where, f"frontend {frontend.name}", None
        where = next((where for where, _ in frontend.all("default_backend")), frontend.where)
        return where, f"default_backend {name}", self._named(name, where)

    def _named(self, name: str, where: str) -> Section | None:
        for one in self._sections:
            if one.kind in {"backend", "listen"} and one.name == name:
                return one
        self._doubts.append(f"{where}: backend {name}")
        return None

    # Conditions.

    def _holds(self, words: Sequence[str]) -> bool | None:
        """Evaluate what follows ``if`` or ``unless``; ``None`` if it is not known."""
        for keyword in ("if", "unless"):
            if keyword in words:
                found = self._evaluate(list(words[list(words).index(keyword) + 1 :]))
                return found if keyword == "if" or found is None else not found
        return True

    def _evaluate(self, words: list[str]) -> bool | None:
        result: bool | None = False
        term: bool | None = True
        at = 0
        while at < len(words):
            word = words[at]
            if word in {"or", "||"}:
                result, term = any_of((result, term)), True
                at += 1
                continue
            is_negated = word.startswith("!")
            word = word.removeprefix("!")
            if not word:
                at += 1
                word = words[at] if at < len(words) else ""
            if word == "{":
                end = words.index("}", at) if "}" in words[at:] else len(words)
                value = self._criterion(words[at + 1 : end])
                at = end
            else:
                value = self._acl(word)
            term = all_of((term, value if value is None else value != is_negated))
            at += 1
        return any_of((result, term))

    def _acl(self, name: str) -> bool | None:
        known = {
            "TRUE": True,
            "FALSE": False,
            "METH_GET": True,
            "HTTP": True,
            "HTTP_1.1": True,
            "LOCALHOST": None,
        }
        if name in known:
            return known[name]
        result: bool | None = False
        is_declared = False
        for _, words in self._frontend.all("acl", name):
            is_declared = True
            result = any_of((result, self._criterion(list(words))))
        return result if is_declared else None

    def _criterion(self, words: list[str]) -> bool | None:
        if not words:
            return None
        fetch, values = words[0], words[1:]
        ignores_case, method = False, ""
        while values and values[0].startswith("-"):
            flag = values.pop(0)
            if flag == "--":
                break
            if flag == "-i":
                ignores_case = True
            elif flag == "-m" and values:
                method = values.pop(0)
            else:
                return None
        fetch, argument = _fetch(fetch)
        name, _, suffix = fetch.rpartition("_")
        if not method and suffix in {"beg", "end", "sub", "reg", "dir", "dom", "len"} and name:
            fetch, method = name, suffix
        subject = self._subject(fetch, argument)
        if subject is None:
            return None
        if isinstance(subject, bool):
            return subject
        if method == "found":
            return bool(subject)
        return any_of(
            _matches(subject, value, method, ignores_case=ignores_case) for value in values
        )

    def _subject(self, fetch: str, argument: str) -> str | bool | None:
        target = self._target
        fields = {
            "host": target.authority,
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
        }
        match fetch.removeprefix("req.").removeprefix("req_"):
            case "path" | "url" | "pathq" | "base":
                path = target.bare_path
                if fetch == "base":
                    return target.authority + path
                return target.path if fetch in {"url", "pathq"} else path
            case "hdr" | "fhdr":
                name, _, _ = argument.partition(",")
                return fields.get(name.lower())
            case "ssl_fc" | "ssl_fc_has_sni":
                return self._ends_tls
            case "ssl_fc_sni" if self._ends_tls:
                return target.host
            case "ssl_sni":
                return target.host if target.is_tls else ""
            case "method":
                return "GET"
            case "dst_port":
                return str(target.port)
            case "always_true":
                return True
            case "always_false":
                return False
            case _:
                return None

    # What follows.

    def _upstreams(self, backend: Section) -> tuple[Upstream, ...]:
        usual = [words for _, words in backend.all("default-server")]
        found = []
        for where, words in backend.all("server"):
            if len(words) < 2 or "disabled" in words:
                continue
            options = [*(one for line in usual for one in line), *words[2:]]
            is_tls = "ssl" in options and "no-ssl" not in options
            if not self._is_http and not self._ends_tls and self._target.is_tls:
                is_tls = True
            sends_proxy = any(one.startswith("send-proxy") for one in options) and not {
                "no-send-proxy",
                "no-send-proxy-v2",
            } & set(options)
            address = words[1]
            if address.startswith(("/", "unix@")):
                path = address.removeprefix("unix@")
                found.append(Upstream(path=path, is_tls=is_tls, sends_proxy=sends_proxy))
                continue
            try:
                host, port = host_and_port(re.sub(r"^ipv[46]@", "", address), self._target.port)
            except ValueError:
                self._doubts.append(f"{where}: server {' '.join(words[:2])}")
                continue
            found.append(Upstream(host=host, port=port, is_tls=is_tls, sends_proxy=sends_proxy))
        return tuple(found)

    def _timeout(self, backend: Section) -> tuple[str, float | None]:
        tunnel = backend.value("timeout", "tunnel") or self._frontend.value("timeout", "tunnel")
        if tunnel is not None:
            return "timeout tunnel", _seconds(tunnel)
        client = _seconds(self._frontend.value("timeout", "client") or "0")
        server = _seconds(backend.value("timeout", "server") or "0")
        set_ones = [
            (timeout, option)
            for timeout, option in ((client, "timeout client"), (server, "timeout server"))
            if timeout
        ]
        if not set_ones:
            return "timeout client", None
        timeout, option = min(set_ones)
        return option, timeout

    def _lost(self, backend: Section) -> tuple[str, ...]:
        lost = []
        whole = {"upgrade": "Upgrade: websocket", "connection": "Connection: Upgrade"}
        for section in (self._frontend, backend):
            for verb in ("del-header", "set-header"):
                for _, words in section.all("http-request", verb):
                    name = words[0].lower() if words else ""
                    if (
                        name in whole
                        and self._holds(words)
                        and not (
                            verb == "set-header"
                            and len(words) > 1
                            and re.search("upgrade|websocket", words[1], re.IGNORECASE)
                        )
                    ):
                        lost.append(whole[name])
        servers = [words for _, words in backend.all("server")]
        if servers and all("proto" in one and "h2" in one for one in servers):
            lost.append("Upgrade: websocket")
        return tuple(dict.fromkeys(lost))

    def _set_fields(self, sections: Sequence[Section]) -> set[str]:
        names = {"x-forwarded-for", "x-real-ip", "forwarded"}
        found = {
            words[0].lower()
            for section in sections
            for _, words in section.all("http-request", "set-header")
            if words
        }
        if any(section.has("option", "forwarded") for section in sections):
            found.add("forwarded")
        return found & names

    def _is_http2_only(self) -> bool:
        bind = list(self._bind)
        protocols = bind[bind.index("alpn") + 1] if "alpn" in bind[:-1] else ""
        is_forced = "proto" in bind[:-1] and bind[bind.index("proto") + 1] == "h2"
        return is_forced or (self._ends_tls and protocols == "h2")

    def _restrictions(self, sections: Sequence[Section]) -> Iterator[str]:
        verbs = {"deny", "reject", "tarpit", "auth", "silent-drop"}
        lines = dict.fromkeys(words for section in sections for _, words in section.lines)
        for words in lines:
            if words[0] in {"http-request", "tcp-request"} and verbs & set(words[1:4]):
                holds = self._holds(words)
                if holds is None or (holds and "auth" in words[1:2]):
                    yield _without_condition(words)
        if "verify" in self._bind and "required" in self._bind:
            yield "bind … verify required"


def _without_condition(words: Sequence[str]) -> str:
    """Write a line without what it compares with, which may be a secret."""
    for at, word in enumerate(words):
        if word in {"if", "unless"}:
            return " ".join((*words[: at + 1], "…"))
    return " ".join(words)


def _fetch(text: str) -> tuple[str, str]:
    name, parenthesis, rest = text.partition("(")
    argument, _, converters = rest.partition(")")
    if converters:
        # A converter changes the value; `lower` does not matter for names.
        return (name, argument) if converters == ",lower" else ("?", "")
    return (name, argument) if parenthesis else (text.removesuffix(",lower"), "")


def _matches(subject: str, value: str, method: str, *, ignores_case: bool) -> bool | None:
    if method == "reg":
        try:
            return re.search(value, subject, re.IGNORECASE if ignores_case else 0) is not None
        except re.error:
            return None
    if ignores_case:
        subject, value = subject.lower(), value.lower()
    match method:
        case "beg":
            return subject.startswith(value)
        case "end":
            return subject.endswith(value)
        case "sub":
            return value in subject
        case "dir":
            return value.strip("/") in subject.strip("/").split("/") or f"/{value.strip('/')}/" in (
                subject + "/"
            )
        case "dom":
            return re.search(rf"(^|[.:]){re.escape(value)}($|[.:])", subject) is not None
        case "" | "str":
            # Without its port, too: `hdr(host)` of a URL on another port has one.
            return subject == value
        case _:
            return None


def _seconds(text: str) -> float | None:
    """Read a time; without a unit it is in milliseconds; 0 and ``infinite`` are none."""
    match = re.fullmatch(r"([0-9]+)(us|ms|s|m|h|d)?", text)
    return None if match is None else float(match[1]) * _UNITS[match[2] or "ms"] or None
