"""What ``python -m tests.fuzz`` tells pytest: which tests, how many examples, when to end."""

import time

import pytest

# Many, but so few that each test gets its turn in a short run.
EXAMPLES = 400


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.addoption("--fuzz-until", type=float, help="when to end, on the monotonic clock")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile, before hypothesis' plugin loads it."""
    # Not before: pytest has to see hypothesis first.
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "fuzz",
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=False,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    config.option.hypothesis_profile = "fuzz"
    # The mark that hypothesis' plugin gives to property tests.
    config.option.markexpr = "hypothesis"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look at the clock before each test."""
    if time.monotonic() >= item.config.getoption("--fuzz-until"):
        pytest.exit("the time is over", returncode=0)
