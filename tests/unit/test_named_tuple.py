"""named_tuple.NamedTuple is typing.NamedTuple in all that this project uses."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any

import pytest

from mproutd import named_tuple


class Faster(named_tuple.NamedTuple):
    """A doc."""

    a: int
    b: undefined  # type: ignore[name-defined]  # noqa: F821
    c: str = "x"
    d: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        return self.a + len(self.d)

    def more(self) -> Faster:
        return self._replace(a=self.a + 1)

    @classmethod
    def make(cls) -> Faster:
        return cls(1, 2)


class Typed(typing.NamedTuple):
    """A doc."""

    a: int
    b: int
    c: str = "x"
    d: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        return self.a + len(self.d)

    def more(self) -> Typed:
        return self._replace(a=self.a + 1)

    @classmethod
    def make(cls) -> Typed:
        return cls(1, 2)


class Single(named_tuple.NamedTuple):
    value: int = 3


class Heir(Faster):
    __slots__ = ()


CLASSES: tuple[Any, Any] = (Faster, Typed)


def test_what_a_class_says_of_itself() -> None:
    one, other = CLASSES
    for name in (
        "_fields",
        "_field_defaults",
        "__match_args__",
        "__doc__",
        "__slots__",
        "__module__",
    ):
        assert getattr(one, name) == getattr(other, name), name
    assert type(one) is type
    assert issubclass(one, tuple)


@pytest.mark.parametrize(
    "arguments",
    [((1, 2), {}), ((1,), {"b": 2}), ((), {"d": (3,), "b": 2, "a": 1}), ((1, 2, "y", (4,)), {})],
)
def test_values_are_the_same(arguments: tuple[Any, Any]) -> None:
    ours, theirs = (kind(*arguments[0], **arguments[1]) for kind in CLASSES)
    assert ours == theirs
    assert hash(ours) == hash(theirs)
    assert repr(ours) == repr(theirs).replace("Typed", "Faster")
    assert (ours.a, ours.b, ours.c, ours.d) == (theirs.a, theirs.b, theirs.c, theirs.d)
    assert ours.total == theirs.total
    assert ours.more() == theirs.more()
    assert ours._asdict() == theirs._asdict()
    assert ours._replace(c="z", a=7) == theirs._replace(c="z", a=7)
    assert type(ours._replace(c="z")) is Faster
    assert Faster._make(list(ours)) == ours


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_copies(again: typing.Callable[[Faster], Faster]) -> None:
    value = Faster(1, 2, d=(3,))
    assert again(value) == value
    assert type(again(value)) is Faster


@pytest.mark.parametrize(
    "arguments",
    [((), {}), ((1,), {}), ((1, 2, 3, 4, 5), {}), ((1, 2), {"a": 1}), ((1, 2), {"z": 1})],
)
def test_wrong_arguments(arguments: tuple[Any, Any]) -> None:
    for kind in CLASSES:
        with pytest.raises(TypeError, match="argument"):
            kind(*arguments[0], **arguments[1])


def test_wrong_fields() -> None:
    value = Faster.make()
    with pytest.raises(TypeError, match="no fields z"):
        value._replace(z=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected 4 values, not 3"):
        Faster._make([1, 2, 3])
    with pytest.raises(AttributeError):
        value.a = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        value.other = 5  # type: ignore[attr-defined]


def test_patterns_heirs_and_a_single_field() -> None:
    match Faster(1, 2, "y"):
        case Faster(1, second, c):
            assert (second, c) == (2, "y")
        case _:
            pytest.fail("no match")
    assert type(Heir(1, 2)._replace(a=3)) is Heir
    assert isinstance(Heir.make(), Heir)
    assert Single() == (3,)
    assert repr(Single()) == "Single(value=3)"
