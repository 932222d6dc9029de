"""exclusive: one thread at a time in an object; a second one gets an error at once."""

from collections.abc import Callable
from functools import wraps
from inspect import isfunction
from threading import get_ident
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)

USER = "user"


def exclusive(cls: Class) -> Class:
    """The class, whose public methods raise ValueError in a second thread, before anything else.

    An object has a dict `_user`: the id of the thread that is in, or nothing.
    """
    for name, member in list(vars(cls).items()):
        if isfunction(member) and not name.startswith("_"):
            setattr(cls, name, _guarded(member))
    return cls


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, for one thread at a time; that thread can call again."""

    @wraps(method)
    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        user, me = self._user, get_ident()
        was_in = user.get(USER) == me  # no other thread can make or end this
        try:
            if user.setdefault(USER, me) != me:  # one step: of two threads, one comes in
                name = type(self).__name__
                raise ValueError(
                    f"a {name} must be used by one thread at a time, got {method.__name__} while "
                    f"another thread is in; give each thread its own {name}, or hold a lock of "
                    "yours around each call"
                )
            return method(self, *arguments, **options)
        finally:
            # Nothing is called here: Python handles signals after calls, and one that raises
            # KeyboardInterrupt would leave the thread in for ever.
            if not was_in and user == {USER: me}:
                del user[USER]

    return run
