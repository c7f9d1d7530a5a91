"""Compiles functions with Numba and keeps the machine code on disk, keyed by all the sources it was made from.

Numba's own cache watches only the file that a function stands in; a loop that inlines a helper from another file would
run the old helper after an update. Here the folder's name is a hash of every source that takes part: the package's, and
for a user's function also the modules and files that its module depends on.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


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

from mbexp.config.dependencies import dependencies, digest, is_of_mbexp  # noqa: E402

_PACKAGE = Path(__file__).resolve().parent.parent
_STARTED = time.time()

KEPT_S = 60 * 86400  # machine code of a version that has not run for so long goes

Function = Callable[..., Any]


def compiled(signature: Any, **options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function for one signature, once for each version of the sources.

    `options` are those of `numba.njit`.
    """

    def decorate(function: Function) -> Function:
        folder = _folder_of(function)
        before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
        if folder is not None:
            numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
        try:
            done: Function = numba.njit(signature, cache=folder is not None, **options)(function)
        except Exception as error:
            if folder is None or isinstance(error, numba.core.errors.NumbaError):
                raise
            _forget(function, folder)  # a file that was cut short, most likely
            done = numba.njit(signature, cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before  # type: ignore[attr-defined]
        return done

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


def inlined(function: Function) -> Function:
    """Compile a function into those that call it; it must not make arrays. A decorator.

    Numba hands an array over as seven arguments, so that a call with many of them costs more than what it calls; and
    where no array is made, none needs to be counted.
    """
    done: Function = numba.njit(forceinline=True, _nrt=False)(function)  # type: ignore[call-overload]
    return done


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder of machine code of this version of the sources; None where nothing can be written."""
    from mbexp.paths import cache_dir

    base = cache_dir()
    if base is None:
        return None
    folder = base / f"compiled-{sources_digest(_PACKAGE)[:16]}"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _forget_old(base)
        os.utime(folder)
    except OSError:
        pass
    return folder if os.access(folder, os.W_OK) else None


def sources_digest(package: Path) -> str:
    """Return a hash of every source below a package that takes part in machine code, and of Numba's version."""
    from mbexp.paths import ROOMS

    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(path for room in ROOMS for path in (package / room).rglob("*.py")):
        digest.update(f"{source.relative_to(package).as_posix()}\0".encode() + source.read_bytes())
    return digest.hexdigest()


def _forget_old(base: Path) -> None:
    """Remove machine code of versions that nobody has run for a long time."""
    for folder in base.glob("compiled-*"):
        if time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def is_compiled(execution: str) -> bool:
    """Return whether the event loop of a mode is compiled already, for this version of the sources and of Python."""
    from mbexp.paths import machine_code_pattern

    folder = cache_folder()
    return folder is not None and any(folder.rglob(machine_code_pattern(execution)))
