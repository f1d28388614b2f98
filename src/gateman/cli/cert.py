"""``gateman cert``: makes certificates for development, with :mod:`gateman.ops.certificates`."""

from datetime import UTC, datetime
from pathlib import Path

import click


@click.group()
def cert() -> None:
    """Make certificates for development."""


@cert.command()
@click.option(
    "--domain",
    "domains",
    multiple=True,
    metavar="NAME",
    help="A domain, wildcard or address for the certificate, in addition to localhost and this"
    " host's name; may be repeated.",
)
@click.option(
    "--out",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="The folder for server.pem and server.key; the default is the working directory.",
)
def dev(domains: tuple[str, ...], directory: Path) -> None:
    """
    Make a certificate that browsers accept, and print how to trust it.

    Your own authority signs it. The authority is made once, and kept in your data folder. Run the
    command again at any time: it keeps a valid certificate, adds missing names, and renews a
    certificate that expires within 30 days.
    """
    # Imported here: it takes 100 ms, and --help does not need it.
    from ..ops.certificates import development_certificate, trust_instructions

    made = development_certificate(domains, directory)
    until = datetime.fromtimestamp(made.expires_at, UTC)
    click.echo(f"{'Made' if made.is_new else 'Kept'} a certificate, valid until {until:%Y-%m-%d}:")
    click.echo(f"    for          {', '.join(made.domains)}")
    click.echo(f"    certificate  {made.certificate}")
    click.echo(f"    key          {made.key}")
    note = " (new: devices do not trust it yet)" if made.is_authority_new else ""
    click.echo(f"    authority    {made.authority}{note}")
    click.echo()
    click.echo(trust_instructions(made), nl=False)
