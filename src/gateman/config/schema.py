"""
Options of workers, each declared once.

A subclass of :class:`Configurable` declares its options as fields, with
:func:`gateman.options.option`. They define its constructor, its checks and ``docs/options.md``, and
type checkers know the constructor's signature.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field
from inspect import Parameter, Signature, cleandoc, get_annotations
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, dataclass_transform, get_args

from msgspec import Struct

from ..errors import ConfigError
from ..options import option

_Given = TypeVar("_Given")
_Kept = TypeVar("_Kept")


class Converted(Generic[_Given, _Kept]):
    """The type of an option that is assigned one type, and keeps another."""

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> _Kept: ...
        def __set__(self, instance: object, value: _Given) -> None: ...


class Option(Struct, frozen=True, kw_only=True):
    name: str
    type: Any  # the annotation of a value
    default: Any  # MISSING if there is none
    unit: str
    reason: str
    check: Callable[["Option", Any], Any]
    kw_only: bool

    @property
    def parameter(self) -> Parameter:
        return Parameter(
            self.name,
            Parameter.KEYWORD_ONLY if self.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if self.default is MISSING else self.default,
            annotation=self.type,
        )


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(option,))
class Configurable:
    """
    A class with options; a subclass may change parts of an inherited option.

    Attributes:
        options: The options, by name.
        state: The other attributes that can be assigned; they are not for users.
        signatures: The callbacks, and the names of their arguments.
        hints: What to write in place of names that other servers have.
    """

    options: ClassVar[Mapping[str, Option]] = {}
    state: ClassVar[AbstractSet[str]] = frozenset()
    signatures: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    hints: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the options, and add them to the class's docstring and signature."""
        super().__init_subclass__()
        types = get_annotations(cls)
        options = dict(cls.options)
        for name, declared in list(vars(cls).items()):
            if isinstance(declared, Field):
                options[name] = _option(name, types[name], declared, options.get(name))
                delattr(cls, name)
        cls.options = options
        described = "\n".join(f"    {one.name}: {one.reason}" for one in options.values())
        cls.__doc__ = f"{cleandoc(cls.__doc__ or cls.__name__)}\n\nOptions:\n{described}"
        # Python requires positional parameters first.
        ordered = sorted(options.values(), key=lambda one: one.kw_only)
        cls.__signature__ = Signature([one.parameter for one in ordered])  # type: ignore[attr-defined]

    if not TYPE_CHECKING:  # Type checkers make the signature from the options.

        def __init__(self, *positional: Any, **named: Any) -> None:
            for name in named:
                if name not in self.options:
                    self._refuse(name)
            try:
                given = self.__signature__.bind(*positional, **named)
            except TypeError as error:
                name = type(self).__name__
                form = ", ".join(one.name for one in self.options.values() if not one.kw_only)
                raise ConfigError(
                    f"{name}(...): {error}",
                    f"write {name}({form}{', ' * bool(form)}option=value)",
                ) from None
            given.apply_defaults()
            self._configure(given.arguments)

    def _configure(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign an option or a callback; refuse other names."""
        if name in self.options:
            one = self.options[name]
            value = one.check(one, value)
        elif name not in self.state and name not in self.signatures:
            self._refuse(name)
        super().__setattr__(name, value)

    def _refuse(self, name: str) -> None:
        kind = type(self).__name__
        if name in self.hints:
            raise ConfigError(f"{name!r} is not an option of {kind}", f"write {self.hints[name]}")
        known = {*self.options, *self.signatures}
        raise ConfigError.unknown(f"option of {kind}", name, known)


def _option(name: str, hint: Any, declared: "Field[Any]", inherited: Option | None) -> Option:
    metadata = declared.metadata
    check = metadata["check"] or (inherited and inherited.check)
    reason = metadata["reason"] or (inherited and inherited.reason)
    if not check or not reason:
        raise TypeError(f"the option {name!r} needs a check and a reason")
    is_converted = getattr(hint, "__origin__", None) is Converted
    return Option(
        name=name,
        type=get_args(hint)[0] if is_converted else hint,
        default=declared.default,
        unit=metadata["unit"] or (inherited.unit if inherited else ""),
        reason=reason,
        check=check,
        kw_only=bool(declared.kw_only),
    )
