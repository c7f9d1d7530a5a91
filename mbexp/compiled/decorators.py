"""Decorators that compile functions with Numba: for a signature, into their callers, or to be called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mbexp.compiled.cache import cache_folder


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Make imports of packages fail that nothing has imported yet."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# Numba imports SciPy only to see whether there is BLAS for `np.convolve`, and Coverage to see whether it is measuring;
# the two take as long as Numba itself.
with _hidden("scipy", "scipy.linalg", "coverage"):
    for _name in ("numba.np.arraymath", "numba.misc.coverage_support"):
        with suppress(ImportError):
            importlib.import_module(_name)
import numba  # noqa: E402

Function = Callable[..., Any]


def compiled(signature: Any, **options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function for one signature, once for each version of the sources.

    `options` are those of `numba.njit`.
    """

    def decorate(function: Function) -> Function:
        folder = cache_folder()
        # Code typed into a notebook or a shell has no file to watch.
        cached = folder is not None and not function.__code__.co_filename.startswith("<")
        before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
        if cached:
            numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
        try:
            done: Function = numba.njit(signature, cache=cached, **options)(function)
        finally:
            numba.config.CACHE_DIR = before  # type: ignore[attr-defined]
        return done

    return decorate


def inlined(function: Function) -> Function:
    """Compile a function into those that call it; it must not make arrays. A decorator.

    Numba hands an array over as seven arguments, so that a call with many of them costs more than what it calls; and
    where no array is made, none needs to be counted.
    """
    done: Function = numba.njit(forceinline=True, _nrt=False)(function)  # type: ignore[call-overload]
    return done


def called(function: Function) -> Function:
    """Compile a function that stays one, for what is long or seldom needed; it must not make arrays. A decorator."""
    done: Function = numba.njit(_nrt=False)(function)  # type: ignore[call-overload]
    return done
