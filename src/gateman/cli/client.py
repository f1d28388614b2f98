"""``gateman client``: prints what some clients need beside an official SDK."""

from importlib.resources import files

import click


@click.group()
def client() -> None:
    """
    Print what a client needs beside the official SDK of its language.

    Browsers, Node, Python, Flutter, Swift and Java need nothing more.
    """


@client.command()
@click.option("--types", is_flag=True, help="Print its types, for TypeScript.")
def wechat(*, types: bool) -> None:
    """
    Print a JavaScript module for mini programs of WeChat and uni-app.

    Save it as gateman-mini-program.js, and its types as gateman-mini-program.d.ts. With it, the
    official client runs on wx.connectSocket or uni.connectSocket.
    """
    name = f"mini-program.{'d.ts' if types else 'js'}"
    click.echo(files("gateman").joinpath("pages", name).read_text("utf-8"), nl=False)
