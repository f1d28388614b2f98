"""``gateman start``, ``stop``, ``restart``, ``reload`` and ``check``."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from ..config import environment
from ..config.base import BaseWorker
from ..errors import CommandError, NotRunning
from ..log import FORMAT_VARIABLE, FORMATS, QUIET_VARIABLE, one_line
from ..master import control, control_requests
from ..master.daemon import Daemon
from ..master.plan import plan
from ..master.script import Script
from ..master.start import start as start_master
from .certificate_views import time_left
from .options import SCRIPT, with_options

if TYPE_CHECKING:
    from ..config.settings import WorkerSettings
    from ..tls.contexts import TlsContexts

_GRACEFUL = click.option(
    "-g",
    "--graceful",
    "is_graceful",
    is_flag=True,
    help="Drain: close connections over the worker's drain_window.",
)

_with_start_options = with_options(
    click.option(
        "-d",
        "--daemon",
        "is_daemon",
        is_flag=True,
        help="Continue in the background when the service serves; log to a file.",
    ),
    click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Log warnings and errors only."),
    click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        help="Lines for people (text, the default), or one JSON object per line (json).",
    ),
    click.option(
        "--log-file",
        "log_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write the log to FILE, and reopen it on SIGHUP, for logrotate. With -d the default"
        " is SCRIPT's name with .log, in SCRIPT's folder.",
    ),
    click.option(
        "--watch", "is_watching", is_flag=True, help="Reload when a .py file has changed."
    ),
)

Use = Callable[[Sequence[BaseWorker], Script], None]


def with_workers(name: str, workers: Sequence[BaseWorker] | None, use: Use) -> None:
    """Call a function with the workers of a script; load it unless its workers are given."""
    if workers is not None:
        use(workers, Script.of_program())
        return
    script = Script.find(name)
    if not sys.flags.safe_path:
        del sys.path[0]  # The folder of the gateman command.
    # The script gets the same arguments as with `python server.py`.
    arguments = sys.argv[1:]
    arguments.remove(name)
    script.run(arguments, lambda declared: use(declared, script))


def _start(
    workers: Sequence[BaseWorker],
    script: Script,
    *,
    log_format: str | None,
    log_path: Path | None,
    is_daemon: bool,
    is_quiet: bool,
    is_watching: bool,
) -> None:
    if log_format is not None:
        os.environ[FORMAT_VARIABLE] = log_format
    if is_quiet:
        os.environ[QUIET_VARIABLE] = "1"
    begin_to_watch = None
    if is_watching:
        # Imported here: it is for development only.
        from ..ops.watch import watcher

        begin_to_watch = watcher(script)
    if is_daemon:
        log_path = log_path or script.path.with_suffix(".log")
        code = _start_daemon(workers, script, log_path, begin_to_watch)
    else:
        code = start_master(workers, script, log_path=log_path, on_serving=begin_to_watch)
    if code:
        sys.exit(code)


def _start_daemon(
    workers: Sequence[BaseWorker],
    script: Script,
    log_path: Path,
    begin_to_watch: Callable[[], None] | None,
) -> int:
    daemon = Daemon(log_path)

    def on_serving() -> None:
        daemon.report_serving()
        if begin_to_watch is not None:
            begin_to_watch()

    return daemon.run(
        lambda: start_master(
            workers, script, log_path=log_path, detach=daemon.detach, on_serving=on_serving
        )
    )


@click.command()
@SCRIPT
@_with_start_options
@click.pass_obj
def start(workers: Sequence[BaseWorker] | None, /, script: str, **how: Any) -> None:
    """Serve what SCRIPT declares, until Ctrl-C or `stop`."""
    with_workers(script, workers, lambda declared, found: _start(declared, found, **how))


@click.command()
@SCRIPT
@_GRACEFUL
def stop(script: str, *, is_graceful: bool) -> None:
    """
    End the service.

    All connections are closed at once with 1001. With -g they are closed with 1012, spread over
    the worker's drain_window, while health checks get 503.
    """
    _stop(Script.find(script), is_graceful=is_graceful)
    click.echo("stopped")


def _stop(script: Script, *, is_graceful: bool) -> None:
    with control.connect_to_master(script) as master:
        master.request(control_requests.Stop(is_graceful), control_requests.StopAnswer)
        master.wait_for_end()


@click.command()
@SCRIPT
@_GRACEFUL
@_with_start_options
@click.pass_obj
def restart(
    workers: Sequence[BaseWorker] | None, /, script: str, *, is_graceful: bool, **how: Any
) -> None:
    """
    End the service if it runs, and start it.

    Unlike `reload` this applies a new address or number of processes, and disconnects all clients.
    SCRIPT is checked before the service ends.
    """

    def stop_and_start(declared: Sequence[BaseWorker], found: Script) -> None:
        plan(declared, now=time.time())
        with contextlib.suppress(NotRunning):
            _stop(found, is_graceful=is_graceful)
        _start(declared, found, **how)

    with_workers(script, workers, stop_and_start)


@click.command()
@SCRIPT
@click.option(
    "-g", "--gently", "is_gentle", is_flag=True, help="Drain each slot before the next one."
)
@click.option(
    "--all", "is_all", is_flag=True, help="Replace gateways and workers with reloadable=False too."
)
def reload(script: str, *, is_gentle: bool, is_all: bool) -> None:
    """
    Load SCRIPT again, without losing a connection attempt.

    One slot after the other gets a new process. When that serves, the old one closes its
    connections with 1012, spread over drain_window; with -g the next slot waits until it has. If a
    new process fails, the old one stays, and the command reports why. Gateways, and workers with
    reloadable=False, keep their processes without --all.
    """
    request = control_requests.Reload(is_gentle, is_all)
    answer = control.ask(Script.find(script), request, control_requests.ReloadAnswer)
    click.echo("\n".join(["reloaded", *map(one_line, answer.get("notes", ()))]))


@click.command()
@SCRIPT
@click.pass_obj
def check(workers: Sequence[BaseWorker] | None, script: str) -> None:
    """
    Load SCRIPT and check its workers, without listening.

    The exit code is 1 if clients refuse a certificate, such as an expired one.
    """

    def report(declared: Sequence[BaseWorker], found: Script) -> None:
        now, is_refused = time.time(), False
        plans = plan(declared, now=now)
        for planned in plans:
            settings, contexts, does = planned.settings, None, "serve"
            if settings is not None:
                contexts = settings.contexts
                listen = replace(settings.listen, is_secure=contexts is not None)
                is_marked = contexts is not None and not listen.is_websocket
                does = f"listen on {listen}{' (TLS)' * is_marked}"
            click.echo(
                f"{found}: {planned.policy.name} would {does}"
                f" with {planned.policy.count} process{'es' * (planned.policy.count > 1)}"
            )
            for option, variable in planned.worker.from_environment.items():
                # Without the value: a bus has a password.
                click.echo(f"{found}: {option} of {planned.policy.name} is from {variable}")
            if settings is not None:
                _report_settings(settings, now)
            if contexts is not None:
                _report_certificates(contexts, now)
                is_refused |= contexts.is_refused
        service = BaseWorker.service
        if service.metrics is not None:
            click.echo(f"{found}: the master would show metrics at {service.metrics}")
        if service.history != "memory":
            # Imported here: most services have no file for it.
            from ..master.router_process import check_history

            check_history(plans, service)
            click.echo(f"{found}: the router would keep the history in {service.history}")
        for option, variable in service.from_environment.items():
            click.echo(f"{found}: {option} is from {variable}")
        for sentence in environment.unknown(declared, os.environ):
            click.echo(f"{found}: {sentence}")
        if is_refused:
            raise CommandError("clients refuse a certificate of this service: see above")

    with_workers(script, workers, report)


def _report_settings(settings: "WorkerSettings", now: float) -> None:
    if isinstance(settings.http, str):
        # Imported here, as most services have no HTTP application.
        from ..runtime.asgi import load

        load(settings.http)
    if settings.acme:
        # Imported here: only a service with acme needs it.
        from .stored_certificates import check_lines

        for line in check_lines(settings.acme, now):
            click.echo(f"    {line}")
    for pattern, channel in settings.channels.items():
        click.echo(f"    channel {pattern}: {str(channel) or 'the defaults'}")
    if settings.tokens is not None and settings.tokens.weakness:
        click.echo(f"    warning: {settings.tokens.weakness}")


def _report_certificates(contexts: "TlsContexts", now: float) -> None:
    for certificate in contexts.certificates:
        left = time_left(certificate.days_left(now), "cannot be read")
        click.echo(f"    {certificate.path}: {left}")
    for warning in contexts.warnings:
        click.echo(f"    warning: {warning}")
    for note in contexts.notes:
        click.echo(f"    note: {note}")
