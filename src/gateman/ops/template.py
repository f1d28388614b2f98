"""
The templates beside this module: ``@{name}`` is a placeholder.

``$`` and bare braces belong to the programs that read the text.
"""

import string
from importlib.resources import files


class _Template(string.Template):
    delimiter = "@"


def fill_in(template: str, values: dict[str, object]) -> str:
    """Return the text of a template, such as ``nginx.conf``, with its values."""
    return _Template(files(__package__).joinpath(template).read_text("utf-8")).substitute(values)
