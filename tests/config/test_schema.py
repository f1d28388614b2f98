"""The options of a worker: what one declaration gives."""

from inspect import signature
from typing import Any

import pytest

from gateman import BusinessWorker, Gateway, Worker
from gateman.config.schema import Configurable
from gateman.errors import ConfigError
from gateman.options import option


def test_attributes_are_options_and_state() -> None:
    made = Worker("websocket://127.0.0.1:0")

    assert set(vars(made)) == set(made.options) | made.state


def test_an_option_without_a_check_or_a_reason_cannot_be_declared() -> None:
    for declared in (option(default=1, reason="Why."), option(default=1, check=print)):
        with pytest.raises(TypeError, match="'size' needs a check and a reason"):
            type("Sized", (Configurable,), {"__annotations__": {"size": int}, "size": declared})


def test_an_option_that_is_declared_again_keeps_the_rest() -> None:
    (inherited, declared) = (kind.options["reloadable"] for kind in (Worker, Gateway))

    assert (inherited.default, declared.default) == (True, False)
    assert (declared.check, declared.reason) == (inherited.check, inherited.reason)


def test_the_signature_is_that_of_the_options() -> None:
    parameters = signature(Worker).parameters
    by_position = [name for name, one in parameters.items() if one.kind is not one.KEYWORD_ONLY]

    assert by_position == ["listen", "context"]
    assert set(parameters) == set(Worker.options)
    assert str(parameters["max_lifetime"]) == "max_lifetime: float | None = None"
    assert str(parameters["slow_consumer"]).startswith("slow_consumer: str | gateman.options.Slow")


def test_the_docstring_lists_every_option() -> None:
    told = str(Gateway.__doc__)

    assert [
        name for name, one in Gateway.options.items() if f"{name}: {one.reason}" not in told
    ] == []


def test_a_call_that_python_would_refuse_is_one_sentence() -> None:
    calls: list[tuple[Any, tuple[object, ...]]] = [
        (Worker, ()),
        (Worker, ("ws://127.0.0.1:1", None, "chat")),
        (BusinessWorker, ("chat",)),
    ]
    sentences = []
    for make, arguments in calls:
        with pytest.raises(ConfigError) as caught:
            make(*arguments)
        sentences.append(str(caught.value))

    assert sentences == [
        "Worker(...): missing a required argument: 'listen': write Worker(listen, context,"
        " option=value).",
        "Worker(...): too many positional arguments: write Worker(listen, context, option=value).",
        "BusinessWorker(...): too many positional arguments: write BusinessWorker(option=value).",
    ]
