"""The rules for all tests, tried on small test suites that break them."""

from pathlib import Path

import pytest

from .conftest import in_order, modules_in

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


def test_what_takes_long_begins_first(pytester: pytest.Pytester) -> None:
    """Before it what runs alone, and as much of both in each worker's run of tests."""
    pytester.makeini("[pytest]\nmarkers =\n alone: a\n long: l")
    items = pytester.getitems("""
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_short(number):
            pass

        @pytest.mark.long
        @pytest.mark.parametrize("number", range(2))
        def test_long(number):
            pass

        @pytest.mark.alone
        def test_alone():
            pass
    """)

    assert [item.name.removeprefix("test_") for item in in_order(items, 2)] == [
        *("alone", "long[1]", "short[0]", "short[1]"),
        *("long[0]", "short[2]", "short[3]", "short[4]", "short[5]"),
    ]


def test_modules_to_compile_are_those_of_the_arguments() -> None:
    """Of a folder all, of a test the one that has it, and none from beyond the tests."""
    here = Path(__file__)

    assert here in modules_in(str(here.parent))
    assert here.parent / "cli" / "test_service.py" in modules_in(str(here.parent))
    assert modules_in(f"{here}::test_this") == [here]
    assert modules_in(str(here.parents[1] / "bench" / "test_load.py")) == []
