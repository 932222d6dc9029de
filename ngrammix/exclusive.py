"""Guard and exclusive: one thread at a time in an object, and none in a half-changed one.

Kernels run without Python's global lock, so two threads in one object would break its tables in
silence. The second one gets an error at once instead. The thread that is in can call again.
"""

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import isfunction
from operator import attrgetter
from threading import get_ident
from types import TracebackType
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)

USER = "user"


class Guard:
    """The thread that uses an object, and how many of its changes have begun and not ended.

    Attributes
    ----------
    user : dict
        The thread's id under `USER`, or empty.
    n_unfinished : int
        Changes under way. With no thread in, they were cut short: the object is no longer whole.
    """

    __slots__ = ("n_unfinished", "user")

    def __init__(self) -> None:
        self.user: dict[str, int] = {}
        self.n_unfinished = 0

    def changing(self, harmless: tuple[type[BaseException], ...] = ()) -> "Changing":
        """Context of a change; an error in it but a `harmless` one leaves the object unusable."""
        return Changing(self, harmless)


class Changing:
    """Context of one change: see `Guard.changing`."""

    __slots__ = ("_guard", "_harmless")

    def __init__(self, guard: Guard, harmless: tuple[type[BaseException], ...]) -> None:
        self._guard, self._harmless = guard, harmless

    def __enter__(self) -> None:
        self._guard.n_unfinished += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, self._harmless):
            self._guard.n_unfinished -= 1


def exclusive(
    *guards: str,
    of: Mapping[str, Collection[str]] | None = None,
    midway: Collection[str] = (),
    free: Collection[str] = (),
) -> Callable[[Class], Class]:
    """Decorator of a class: of its methods and properties, those with the same guard never overlap.

    In a second thread they raise ValueError, before they do anything else. They also raise it if a
    change of the object was cut short, or was interrupted by a signal handler of the same thread.

    Parameters
    ----------
    *guards : str
        Attributes of an object, such as "_guard" or "_cache._guard", that are a `Guard`.
    of : dict of collections of str
        By guard, the methods and properties that have this one alone.
    midway : collection of str
        Methods and properties that an object in the middle of a change has too.
    free : collection of str
        Those without a guard.
    """

    def decorate(cls: Class) -> Class:
        for name, member in list(vars(cls).items()):
            is_public = not name.startswith("_") or name == "__len__"
            function = member.fget if isinstance(member, property) else member
            if not is_public or name in free or not isfunction(function):
                continue
            own = [guard for guard, names in (of or {}).items() if name in names]
            for guard in reversed(own or guards):
                function = _guarded(function, attrgetter(guard), name not in midway)
            setattr(cls, name, property(function) if isinstance(member, property) else function)
        return cls

    return decorate


def _guarded(
    method: Callable[..., Any], guard_of: Callable[[Any], Guard], needs_whole: bool
) -> Callable[..., Any]:
    """The method under one guard."""

    @wraps(method)
    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        guard, me = guard_of(self), get_ident()
        user = guard.user
        was_in = user.get(USER) == me  # no other thread can make or end this
        try:
            if user.setdefault(USER, me) != me:  # one step: of two threads, one comes in
                raise _in_use(type(self).__name__, method.__name__)
            if guard.n_unfinished and needs_whole:
                raise _half_changed(type(self).__name__)
            return method(self, *arguments, **options)
        finally:
            # Nothing is called here: Python handles signals after calls, and one that raises
            # KeyboardInterrupt would leave the thread in for ever.
            if not was_in and user == {USER: me}:
                del user[USER]

    return run


def _in_use(name: str, method: str) -> ValueError:
    return ValueError(
        f"a {name} must be used by one thread at a time, got {method} while another thread is in; "
        f"give each thread its own {name}, or hold a lock of yours around each call"
    )


def _half_changed(name: str) -> ValueError:
    return ValueError(
        f"a {name} must be whole, got one in the middle of a change, which Ctrl-C or a fork cut "
        "short, or a signal handler interrupted; make a new one, or load the last snapshot"
    )
