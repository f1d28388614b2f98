"""The rules for all tests, tried on small test suites that break them."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SKIPPING = """
    import pytest

    def test_body():
        pytest.skip("no Apache here")

    @pytest.mark.skip(reason="not today")
    def test_mark():
        pass

    @pytest.mark.xfail(reason="known")
    def test_known():
        raise AssertionError

    def test_passing():
        pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty suite that has our ``conftest.py``."""
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    return pytester


def test_skips_are_skips_on_a_laptop(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``CI=true``, a skipped test is reported as such."""
    monkeypatch.delenv("CI", raising=False)
    suite.makepyfile(SKIPPING)

    suite.runpytest_inprocess().assert_outcomes(passed=1, skipped=2, xfailed=1)


def test_skips_fail_in_ci(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``CI=true``, a skipped test fails and says what was missing."""
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(SKIPPING)

    result = suite.runpytest_inprocess()

    result.assert_outcomes(passed=1, failed=1, errors=1, xfailed=1)
    result.stdout.fnmatch_lines(["CI must have everything*skipped: Skipped: no Apache here"])


def test_skipped_module_fails_in_ci(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``CI=true``, a module that skips itself fails, though none of its tests was found."""
    monkeypatch.setenv("CI", "true")
    suite.makepyfile("import pytest; pytest.skip('no browser', allow_module_level=True)")

    result = suite.runpytest_inprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["CI must have everything*skipped: Skipped: no browser"])
