"""``gateman proxy``: print a proxy's configuration; what is in it is decided in ``ops.proxy``."""

from collections.abc import Callable
from typing import Any

import click

from ..ops.proxy import Site, apache, installed_nginx, nginx

_OPTIONS = (
    click.option(
        "--domain",
        required=True,
        metavar="NAME",
        help="The domain that the certificate names, such as example.com.",
    ),
    click.option(
        "--path",
        default="/wss",
        show_default=True,
        help="Where the WebSocket is; what lies below it goes to the worker too.",
    ),
    click.option(
        "--upstream",
        default="127.0.0.1:8282",
        show_default=True,
        metavar="ADDRESS",
        help="Where the worker listens: HOST:PORT, [IPV6]:PORT or unix:/FILE.",
    ),
    click.option(
        "--cert",
        "certificate",
        required=True,
        metavar="FILE",
        help="The certificate with its chain, PEM (fullchain.pem).",
    ),
    click.option("--key", required=True, metavar="FILE", help="The private key, PEM."),
    click.option(
        "--listen",
        default="443",
        show_default=True,
        metavar="PORT",
        help="The port that clients connect to, or ADDRESS:PORT.",
    ),
    click.option(
        "--root",
        default="/var/www/html",
        show_default=True,
        metavar="FOLDER",
        help="The rest of the site.",
    ),
    click.option(
        "--ping-interval",
        type=float,
        default=25.0,
        show_default=True,
        metavar="SECONDS",
        help="The worker's timeouts.ping_interval, from which the proxy's timeouts follow.",
    ),
)


def _with_site(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def proxy() -> None:
    """
    Print the configuration of a proxy that does TLS for a worker.

    The whole configuration goes to standard output; its first lines say where to save it and how to
    test and load it. Nothing is written and no server is touched.
    """


@proxy.command("nginx")
@_with_site
@click.option(
    "--nginx-version",
    metavar="VERSION",
    help="Write for this version; without it, for the one that is installed here, or for any.",
)
def nginx_command(nginx_version: str | None, **site: Any) -> None:
    """Print a configuration for Nginx."""
    text = nginx(Site(**site), version=nginx_version or installed_nginx())
    click.echo(text, nl=False)


@proxy.command("apache")
@_with_site
def apache_command(**site: Any) -> None:
    """Print a configuration for Apache 2.4.47 or later."""
    click.echo(apache(Site(**site)), nl=False)
