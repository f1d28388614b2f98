"""Two services on one bus are noticed, and the parts of one are not."""

from gateman.cluster.services import Outline, Services, label

CHAT = ("chat.py", "Worker chat answer")
BILLING = ("server.py", "Worker billing pay")
GATEWAY = ("gateway.py", "Gateway gateway")
BUSINESS = ("business.py", "BusinessWorker business answer")


def met(own: Outline, *others: Outline) -> list[bool]:
    """Meet others; tells which are told of."""
    services = Services(own)
    return [services.detect_other(other) for other in others]


def test_another_service_is_told_of_once() -> None:
    """However many processes it has."""
    assert met(CHAT, CHAT, BILLING, BILLING, CHAT) == [False, True, False, False]
    assert label(BILLING) == "server.py (Worker billing pay)"


def test_parts_of_one_service_belong_together() -> None:
    """Gateways and business workers may be in scripts of their own."""
    assert met(GATEWAY, BUSINESS) == met(BUSINESS, GATEWAY) == [False]
    assert met((*GATEWAY, *BUSINESS[1:]), BUSINESS) == [True]


def test_versions_of_one_service_belong_together() -> None:
    """While it is reloaded, or restarted on one machine after the other."""
    old = ("server.py", "Worker chat answer", "Worker shop")
    more = ("server.py", "Worker chat answer left", "Worker shop buy")
    renamed = ("server.py", "Worker chat reply", "Worker shop buy")
    assert met(old, more, renamed) == met(more, old, renamed) == [False, False]
    assert met(renamed, old, more) == [False, False]


def test_two_services_may_have_the_same_names() -> None:
    """The functions of their workers differ."""
    own = ("server.py", "Worker chat answer", "Worker shop buy")
    others = ("server.py", "Worker chat say", "Worker shop sell"), ("server.py", "Worker bank pay")
    assert met(own, *others) == [True, True]


def test_versions_do_not_use_up_what_is_remembered() -> None:
    """A service that is developed reloads often."""
    versions = [(*CHAT[:1], f"{CHAT[1]} {number}") for number in range(1000)]
    assert sum(met(CHAT, *versions, BILLING)) == 1


def test_programs_beside_it_are_no_service() -> None:
    """They say nothing, and are told nothing."""
    assert met(CHAT, ()) == met((), CHAT) == [False]


def test_what_is_remembered_is_bounded() -> None:
    """Scripts that are changed all the time fill no memory."""
    told = met(CHAT, *((f"{number}.py", CHAT[1]) for number in range(1000)))

    assert 0 < sum(told) < 100
