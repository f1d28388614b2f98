"""Finds the proxies of this machine, reads their configurations, and looks the URL up in them."""

import http.client
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ...findings import Finding, Severity, Software
from ...master.process_state import parent_of
from ...ops.proxy import installed_nginx
from ...tls import certificate_findings
from ...tls.certificate_chain import read_chain
from ..target import Target
from . import system
from .observations import PROXY_PROGRAMS, ListenerSeen, ProxySeen
from .proxies import apache, apache_syntax, caddy, haproxy, nginx, nginx_syntax
from .proxies.route import (
    MAX_CONFIGURATION_SIZE,
    Files,
    ProxyRoute,
    UnreadableConfiguration,
)

_COMMAND_TIMEOUT = 3.0  # seconds
_MAX_FILES = 2000
_MAX_PROXIES = 8
_MAX_CERTIFICATE_SIZE = 1 << 20  # bytes

# The first nginx that speaks HTTP/1.1 to an upstream by itself.
_HTTP_1_1_BY_DEFAULT = (1, 29, 7)

_MAIN_FILES = {
    Software.NGINX: ("/etc/nginx/nginx.conf", "/usr/local/nginx/conf/nginx.conf"),
    Software.APACHE: ("/etc/apache2/apache2.conf", "/etc/httpd/conf/httpd.conf"),
    Software.HAPROXY: ("/etc/haproxy/haproxy.cfg",),
    Software.CADDY: ("/etc/caddy/Caddyfile",),
}
_CADDY_ADMIN = ("localhost", 2019)

# Those that have nothing to do with which roots clients trust.
_CERTIFICATE_CODES = frozenset(
    {"CERTIFICATE_EXPIRED", "CERTIFICATE_NOT_VALID_YET", "CHAIN_INCOMPLETE", "CHAIN_FOREIGN"}
)


def look(
    target: Target, listeners: Sequence[ListenerSeen], given: Path | None, *, now: float
) -> tuple[ProxySeen, ...]:
    """Look at the proxy of the URL's port, or at the file that was given."""
    if given is not None:
        return (_read(_kind(given), target, [given], [], now),)
    owners = {one.owner.partition(" ")[0] for one in listeners if one.port == target.port}
    known = {PROXY_PROGRAMS[one] for one in owners if one in PROXY_PROGRAMS}
    if any(one.is_own for one in listeners if one.port == target.port):
        return ()
    if not known and owners - {""}:
        return ()
    owned = " ".join(one.owner for one in listeners if one.port == target.port)
    running: dict[Software, list[int]] = {}
    for pid in system.pids():
        software = PROXY_PROGRAMS.get(system.name(pid))
        if software is not None and (not known or software in known):
            running.setdefault(software, []).append(pid)
    found = []
    for software, pids in running.items():
        # Those that have the port come first.
        masters = sorted(_masters(pids).items(), key=lambda one: f"(pid {one[0]})" not in owned)
        for pid, children in masters[:_MAX_PROXIES]:
            command = system.command(pid)
            files = [system.folder(pid) / one for one in _main_files(software, command)]
            seen = _read(software, target, files, command, now, user=_user([pid, *children]))
            if seen.route is not None or (seen.problem and software in known):
                found.append(seen)
            if seen.route is not None:
                break
    with_route = [one for one in found if one.route is not None]
    return tuple(with_route[:1] or found)


def _masters(pids: Sequence[int]) -> dict[int, list[int]]:
    """Return the processes whose parent is none of these, with their children."""
    parents = {pid: parent_of(pid) for pid in pids}
    return {
        pid: [child for child in pids if parents[child] == pid]
        for pid in pids
        if parents[pid] not in parents
    }


def _user(pids: Sequence[int]) -> str:
    """Name the user of the processes that connect: those that gave up root."""
    uids = [uid for pid in pids if (uid := system.uid(pid)) is not None]
    return system.account_name(next((uid for uid in uids if uid), 0))


def _main_files(software: Software, command: Sequence[str]) -> list[Path]:
    option = {Software.NGINX: "-c", Software.APACHE: "-f", Software.CADDY: "--config"}.get(
        software, "-f"
    )
    found = [Path(command[at + 1]) for at, word in enumerate(command[:-1]) if word == option]
    files: list[Path] = []
    for one in found:
        files += sorted(one.glob("*.cfg")) if one.is_dir() else [one]
    return files or [Path(one) for one in _MAIN_FILES[software] if Path(one).exists()][:1]


def _kind(path: Path) -> Software:
    """Tell by the text which proxy a file belongs to."""
    try:
        text = path.read_text(errors="replace")[:MAX_CONFIGURATION_SIZE]
    except OSError:
        return Software.NGINX
    if text.lstrip().startswith("{") and '"apps"' in text:
        return Software.CADDY
    if re.search(r"^(frontend|backend|listen)\s+\S+\s*$", text, re.MULTILINE):
        return Software.HAPROXY
    if re.search(
        r"^\s*(<VirtualHost|ServerRoot\s|ProxyPass\s)", text, re.MULTILINE | re.IGNORECASE
    ):
        return Software.APACHE
    if path.name == "Caddyfile" or re.search(r"^\s*reverse_proxy\s", text, re.MULTILINE):
        return Software.CADDY
    return Software.NGINX


def _read(
    software: Software,
    target: Target,
    files: Sequence[Path],
    command: Sequence[str],
    now: float,
    *,
    user: str = "",
) -> ProxySeen:
    source = ", ".join(map(str, files)) or "its usual files"
    try:
        route = _READERS[software](target, files, command)
    except UnreadableConfiguration as error:
        return ProxySeen(software=software, source=source, problem=str(error))
    except OSError as error:
        problem = f"{error.filename or source}: {(error.strerror or str(error)).lower()}"
        return ProxySeen(software=software, source=source, problem=problem)
    if route is not None and user:
        route = replace(route, user=user)
    findings: tuple[Finding, ...] = ()
    if route is not None and files:
        findings = tuple(_certificates(route, files[0].parent, now))
    return ProxySeen(software=software, source=source, route=route, findings=findings)


def _certificates(route: ProxyRoute, folder: Path, now: float) -> list[Finding]:
    found: list[Finding] = []
    for name in route.certificates:
        path = folder / name
        try:
            if not path.is_file() or path.stat().st_size > _MAX_CERTIFICATE_SIZE:
                continue
            chain = read_chain(path.read_bytes())
        except OSError:
            continue
        findings = certificate_findings.judge(
            chain, now=now, name=f"the certificate {path}", software=route.software
        )
        found += [
            one
            for one in findings
            if one.code in _CERTIFICATE_CODES and one.severity is Severity.CAUSE
        ]
    return found


# One reader for each kind of proxy.


def _nginx(target: Target, files: Sequence[Path], command: Sequence[str]) -> ProxyRoute | None:
    version = installed_nginx()
    number = tuple(int(one) for one in version.split(".")) if version else ()
    default = "1.1" if number >= _HTTP_1_1_BY_DEFAULT else "1.0"
    texts = _nginx_dump(files, command)
    if texts is None:
        if not files:
            raise UnreadableConfiguration("it was not found")
        texts = _with_included(files, nginx_syntax.included, lambda _text, main: str(main.parent))
    return nginx.find_route(texts, target, default_version=default)


def _nginx_dump(files: Sequence[Path], command: Sequence[str]) -> Files | None:
    """Have nginx print what it reads; ``None`` if it does not, as for one without root."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    words = [program, "-T", "-q"]
    for option in ("-p", "-e"):
        if option in command[:-1]:
            words += [option, command[list(command).index(option) + 1]]
    if files:
        words += ["-c", str(files[0].absolute())]
    printed = _run(words)
    try:
        return None if printed is None else nginx_syntax.split_dump(printed)
    except UnreadableConfiguration:
        return None


def _apache(target: Target, files: Sequence[Path], _command: Sequence[str]) -> ProxyRoute | None:
    if not files:
        raise UnreadableConfiguration("it was not found")
    texts = _with_included(
        files,
        apache_syntax.included,
        lambda text, main: apache_syntax.server_root(text) or str(main.parent),
    )
    return apache.find_route(texts, target)


def _haproxy(target: Target, files: Sequence[Path], _command: Sequence[str]) -> ProxyRoute | None:
    if not files:
        raise UnreadableConfiguration("it was not found")
    return haproxy.find_route({str(one): _text(one) for one in files}, target)


def _caddy(target: Target, files: Sequence[Path], _command: Sequence[str]) -> ProxyRoute | None:
    for path in files:
        if path.suffix == ".json":
            return caddy.find_route(_text(path), target, name=str(path))
    running = _caddy_admin() if system.processes_named({"caddy"}) else None
    if running is not None:
        name = "the configuration of the running Caddy"
        route = caddy.find_route(running, target, name=name)
        # Another Caddy may have the port, whose admin API is elsewhere, or off.
        if route is not None or not files:
            return route
    program = shutil.which("caddy")
    if files and program is not None:
        adapted = _run([program, "adapt", "--config", str(files[0].absolute())])
        if adapted is not None:
            return caddy.find_route(adapted, target, name=str(files[0]))
    if running is not None:
        return None
    raise UnreadableConfiguration(
        "neither its admin API (localhost:2019) nor `caddy adapt` gives it"
    )


_Reader = Callable[[Target, Sequence[Path], Sequence[str]], ProxyRoute | None]
_READERS: dict[Software, _Reader] = {
    Software.NGINX: _nginx,
    Software.APACHE: _apache,
    Software.HAPROXY: _haproxy,
    Software.CADDY: _caddy,
}


def _caddy_admin() -> str | None:
    connection = http.client.HTTPConnection(*_CADDY_ADMIN, timeout=1.0)
    try:
        connection.request("GET", "/config/")
        answer = connection.getresponse()
        body = answer.read(MAX_CONFIGURATION_SIZE)
        return body.decode(errors="replace") if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _with_included(
    files: Sequence[Path],
    included: Callable[[str], list[str]],
    root_of: Callable[[str, Path], str],
) -> Files:
    """Read the main file and all that it includes, and what those include."""
    main = files[0].absolute()
    texts = {str(main): _text(main)}
    root = root_of(texts[str(main)], main)
    waiting = [str(main)]
    size = len(texts[str(main)])
    while waiting:
        for pattern in included(texts[waiting.pop()]):
            full = pattern if pattern.startswith("/") else f"{root}/{pattern}"
            for path in sorted(map(str, Path("/").glob(full.lstrip("/")))):
                if path in texts or not Path(path).is_file():
                    continue
                try:
                    texts[path] = _text(Path(path))
                except OSError:
                    continue
                size += len(texts[path])
                if size > MAX_CONFIGURATION_SIZE or len(texts) > _MAX_FILES:
                    raise UnreadableConfiguration("it is too large")
                waiting.append(path)
    return texts


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_CONFIGURATION_SIZE + 1)
    if len(data) > MAX_CONFIGURATION_SIZE:
        raise UnreadableConfiguration(f"{path} is too large")
    return data.decode(errors="replace")


def _run(words: Sequence[str]) -> str | None:
    try:
        ran = subprocess.run(  # noqa: S603 - no shell, and paths that the system gave
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = ran.stdout[:MAX_CONFIGURATION_SIZE].decode(errors="replace")
    return text if ran.returncode == 0 else None
