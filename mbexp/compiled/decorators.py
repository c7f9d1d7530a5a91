"""Decorators that compile functions with Numba: for a signature, into their callers, or to be called.

Machine code is kept on disk (`mbexp.compiled.cache`): that of the package by all its compiled sources, and that of a
user's function also by the modules and files that its own module depends on.
"""

from __future__ import annotations

import functools
import gc
import glob
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mbexp.compiled.cache import cache_folder
from mbexp.compiled.mistakes import what_is_wrong
from mbexp.config.dependencies import dependencies, digest, is_of_mbexp
from mbexp.errors import UserError


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

from mbexp.compiled.inside import Inside, same_for_constants  # noqa: E402

_STARTED = time.time()

Function = Callable[..., Any]


def compiled(signature: Any, **options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function for one signature, once for each version of the sources.

    `options` are those of `numba.njit`.
    """

    def decorate(function: Function) -> Function:
        folder = _folder_of(function)
        collects = gc.isenabled()
        gc.disable()  # a compilation makes millions of objects that live to its end
        before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
        if folder is not None:
            numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
        try:
            done: Function = numba.njit(signature, cache=folder is not None, **options)(function)
        except Exception as error:
            mistake = isinstance(error, (numba.core.errors.NumbaError, TypeError))
            if mistake and not is_of_mbexp(function.__code__.co_filename):
                raise UserError(what_is_wrong(error, function, _fields(signature))) from None
            if folder is None or isinstance(error, numba.core.errors.NumbaError):
                raise
            _forget(function, folder)  # a file that was cut short, most likely
            done = numba.njit(signature, cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before  # type: ignore[attr-defined]
            if collects:
                gc.enable()
        return done

    return decorate


def _fields(signature: Any) -> dict[str, tuple[str, ...]]:
    """Return the fields of the views among a function's arguments, by the names of their classes."""
    classes = [getattr(kind, "instance_class", None) for kind in getattr(signature, "args", ())]
    return {each.__name__: each._fields for each in classes if each is not None and hasattr(each, "_fields")}


def compiled_late(signature: Any, **options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function for one signature when Python first calls it.

    For what a run may not need. Such a function is no value that compiled code could take; `options` are those of
    `numba.njit`.
    """

    def decorate(function: Function) -> Function:
        @functools.cache
        def ready() -> Function:
            return compiled(signature, no_cfunc_wrapper=True, **options)(function)

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            return ready()(*arguments)

        return call

    return decorate


def _folder_of(function: Function) -> Path | None:
    """Return the folder of a function's machine code; None where it is not kept."""
    folder, source = cache_folder(), function.__code__.co_filename
    # Code typed into a notebook or a shell has no file to watch.
    if folder is None or source.startswith("<") or is_of_mbexp(source):
        return None if source.startswith("<") else folder
    files = [Path(source), *dependencies(source, function.__module__).values()]
    # What was edited after this process may have imported it is not what the machine code is made of.
    if any(file.stat().st_mtime > _STARTED for file in files):
        return None
    return folder / f"own-{digest(source, function.__module__)[:16]}"


def _forget(function: Function, folder: Path) -> None:
    """Remove the machine code of a function."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}".replace("<", "").replace(">", "")
    for file in folder.rglob(f"{glob.escape(name)}-*.nb[ic]"):
        file.unlink(missing_ok=True)


# Of functions that only compiled code calls: the two ways in from outside would take a fifth of their compilation.
_INSIDE = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": Inside}


def _inside(function: Function, **options: Any) -> Function:
    done: Function = numba.njit(**_INSIDE, **options)(function)  # type: ignore[call-overload]
    return done if done is function else same_for_constants(done)  # itself where nothing is compiled


def inlined(function: Function) -> Function:
    """Compile a function into those that call it; it must not make arrays. A decorator.

    Numba hands an array over as seven arguments, so that a call with many of them costs more than what it calls; and
    where no array is made, none needs to be counted.
    """
    return _inside(function, forceinline=True)


def called(function: Function) -> Function:
    """Compile a function that stays one, for what is long or seldom needed; it must not make arrays. A decorator."""
    return _inside(function)
