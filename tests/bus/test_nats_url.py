"""A URL of NATS says where it is and who we are, or is refused without being repeated."""

import pytest

from gateman.bus.nats_url import NatsUrl, Server
from gateman.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected", "shown"),
    [
        (
            "nats://example.org",
            NatsUrl(servers=(Server("example.org", 4222),), is_tls=False),
            "nats://example.org:4222",
        ),
        (
            "tls://10.0.0.1:4443",
            NatsUrl(servers=(Server("10.0.0.1", 4443),), is_tls=True),
            "tls://10.0.0.1:4443",
        ),
        (
            "nats://anna:s%2F3@one,two:4223",
            NatsUrl(
                servers=(Server("one", 4222), Server("two", 4223)),
                is_tls=False,
                user="anna",
                password="s/3",
            ),
            "nats://one:4222,two:4223",
        ),
        (
            "nats://anna:x@one,nats://anna:x@two",
            NatsUrl(
                servers=(Server("one", 4222), Server("two", 4222)),
                is_tls=False,
                user="anna",
                password="x",
            ),
            "nats://one:4222,two:4222",
        ),
        (
            "nats://t0k%40en@one",
            NatsUrl(servers=(Server("one", 4222),), is_tls=False, token="t0k@en"),
            "nats://one:4222",
        ),
        (
            "nats://anna:p@ss@[::1]:5222",
            NatsUrl(servers=(Server("::1", 5222),), is_tls=False, user="anna", password="p@ss"),
            "nats://[::1]:5222",
        ),
        (
            "nats://anna:p?ss@one,two?name=chat-2",
            NatsUrl(
                servers=(Server("one", 4222), Server("two", 4222)),
                is_tls=False,
                user="anna",
                password="p?ss",
                name="chat-2",
            ),
            "nats://one:4222,two:4222?name=chat-2",
        ),
    ],
)
def test_it_is_read(url: str, expected: NatsUrl, shown: str) -> None:
    """Servers, users, passwords and tokens; what is shown of it holds no secret."""
    read = NatsUrl.parse(url)

    assert read == expected
    assert str(read) == shown
    assert all(secret not in repr(read) for secret in ("s/3", "t0k", "p@ss", "p?ss"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://s3cret@one", "the bus's URL is not one of NATS"),
        ("s3cret", "the bus's URL is not one of NATS"),
        ("nats://", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@one,,two", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@one:port", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@one:0", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@one:65536", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@one/path", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@one two", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@[::1", "the bus's URL has an invalid server"),
        ("nats://anna:s3cret@one,bert:x@two", "the bus's URL has several users"),
        ("nats://one?name=s3cret.", "the bus's name cannot be used"),
        ("nats://one?name=", "the bus's name cannot be used"),
        ("nats://one?s3cret", "the bus's URL has options that are not known"),
        ("nats://one?name=chat&token=s3cret", "the bus's URL has options that are not known"),
        ("nats://one?name=chat,two", "the bus's name cannot be used"),
        ("nats://s3cret@one,tls://two", "the bus's URL has an invalid server"),
    ],
)
def test_what_makes_no_sense_is_refused_without_repeating_it(url: str, message: str) -> None:
    """The error says what is wrong, and holds nothing of what may be a password."""
    with pytest.raises(ConfigError) as caught:
        NatsUrl.parse(url)

    assert caught.value.problem == message
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.7", False),
        ("0.0.0.0", False),
        ("localhost.example.com", False),
    ],
)
def test_a_loopback_address_is_reached_from_this_machine_only(host: str, *, is_here: bool) -> None:
    """By its address; what names mean is for others to say."""
    assert Server(host, 4222).is_here == is_here
