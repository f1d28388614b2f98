"""``gateman cert``: certificates for development; how they are made is decided in ``ops``."""

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
    help="A domain, wildcard or address that the certificate is for, beside localhost and this"
    " host's name; may be repeated.",
)
@click.option(
    "--out",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Where server.pem and server.key go; the working directory unless given.",
)
def dev(domains: tuple[str, ...], directory: Path) -> None:
    """
    Make a certificate that browsers accept, and tell how.

    It is signed by an authority of your own, which is made once and kept in your data folder. Run
    it again at any time: a good certificate is kept, names that are missing are added, and one
    that expires within 30 days is renewed.
    """
    # Imported here: it takes 100 ms, and --help can do without.
    from ..ops.certificates import development_certificate, trust_instructions

    made = development_certificate(domains, directory)
    until = datetime.fromtimestamp(made.expires_at, UTC)
    click.echo(f"{'Made' if made.is_new else 'Kept'} a certificate, valid until {until:%Y-%m-%d}:")
    click.echo(f"    for          {', '.join(made.domains)}")
    click.echo(f"    certificate  {made.certificate}")
    click.echo(f"    key          {made.key}")
    news = " (new: devices do not trust it yet)" if made.is_authority_new else ""
    click.echo(f"    authority    {made.authority}{news}")
    click.echo()
    click.echo(trust_instructions(made), nl=False)
