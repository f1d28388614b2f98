"""Directives, as nginx and Apache have them."""

from gateman.doctor.service.proxies.directive import Directive

FIRST = Directive("listen", ("80",), (), "a.conf:2")
LAST = Directive("listen", ("443", "ssl"), (), "a.conf:3")
BARE = Directive("listen", (), (), "a.conf:4")
SERVER = Directive("server", (), (FIRST, LAST, BARE), "a.conf:1")


def test_a_directive_knows_those_within_it() -> None:
    assert list(SERVER.all("listen")) == [FIRST, LAST, BARE]
    assert (SERVER.last("listen"), SERVER.last("root")) == (BARE, None)
    assert (SERVER.value("listen"), SERVER.value("root")) == ("443", None)
    assert str(LAST) == "listen 443 ssl"
