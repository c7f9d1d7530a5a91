"""What Ctrl-C and SIGTERM do to a command: the first lets it end in good order, the second ends it."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C for the length of the block, and have a second signal of either kind end the process.

    Python looks at signals between its own steps: while compiled code runs, a signal waits for its end, which a rule
    that never returns does not reach. So the system is told to take its default action the second time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    own = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        own.append(signal.SIGINT)
    for number in own:
        _once(number)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if signal.SIGINT in own:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _once(number: int) -> None:
    """Have the handler of a signal serve once, by the old rule of System V; left alone where there is no such call."""
    library = ctypes.CDLL(None) if hasattr(signal, "pthread_kill") else None
    if not hasattr(library, "sysv_signal") or not hasattr(library, "signal"):
        return
    assert library is not None
    for function in (library.signal, library.sysv_signal):
        function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    handler = library.signal(number, None)  # the interpreter's own, which notes the signal for the next step
    library.sysv_signal(number, handler)
