"""``gateman proxy``: prints the configuration of a proxy, made by :mod:`gateman.ops.proxy`."""

from typing import Any

import click

from ..ops.proxy import Site, apache, installed_nginx, nginx
from .options import with_options

_with_site = with_options(
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
        help="The path of the WebSocket; paths below it go to the worker too.",
    ),
    click.option(
        "--upstream",
        default="127.0.0.1:8282",
        show_default=True,
        metavar="ADDRESS",
        help="The worker's address: HOST:PORT, [IPV6]:PORT or unix:/FILE.",
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
        help="The folder with the rest of the site.",
    ),
    click.option(
        "--ping-interval",
        type=float,
        default=25.0,
        show_default=True,
        metavar="SECONDS",
        help="The worker's timeouts.ping_interval, for the proxy's timeouts.",
    ),
)


@click.group()
def proxy() -> None:
    """
    Print the configuration of a proxy for a worker.

    The proxy does TLS. The first lines of the configuration say where to save it, and how to test
    and load it. The command writes no file, and configures no server.
    """


@proxy.command("nginx")
@_with_site
@click.option(
    "--nginx-version",
    metavar="VERSION",
    help="The version of Nginx; the default is the installed one, or any.",
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
