"""Templates of configuration files."""

import pytest

from gateman.ops.template import fill_in


def test_other_languages_placeholders_stay() -> None:
    """A shell's variables in the text are not placeholders."""
    text = fill_in("trust.txt", {"authority": "/ca.pem", "key": "/ca.key", "name": "CA"})

    assert 'certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n "CA" -i /ca.pem\n' in text
    assert "@" not in text


def test_every_placeholder_needs_a_value() -> None:
    with pytest.raises(KeyError, match="key"):
        fill_in("trust.txt", {"authority": "/ca.pem", "name": "CA"})
