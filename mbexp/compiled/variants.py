"""Functions that are one thing in a run that has a part, and another in a run without it.

What a run lacks is not compiled for it. The head of a run (`mbexp.compiled.records`) says by its fields what it has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba import config
from numba.extending import overload

Function = Callable[..., Any]


def variant(field: str, present: Function, absent: Function) -> Function:
    """Return a compiled function of the same arguments, the head first: which of two is decided as it is compiled.

    Parameters
    ----------
    field
        Of the head.
    present, absent
        Compiled functions of arguments of the same names: where the head has the field, and where it has not.
    """
    names = ", ".join(inspect.signature(getattr(present, "py_func", present)).parameters)

    def plain(head: Any, *arguments: Any) -> Any:
        return (present if field in head.dtype.names else absent)(head, *arguments)

    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return plain
    scope: dict[str, Any] = {}
    exec(f"def stub({names}):\n    raise NotImplementedError", scope)
    forms = {
        function: eval(f"lambda {names}: function({names})", {"function": function}) for function in (present, absent)
    }
    head = names.partition(",")[0]
    chooser = {"forms": forms, "present": present, "absent": absent, "field": field}
    exec(f"def choose({names}):\n    return forms[present if field in {head}.fields else absent]", chooser)
    options: Any = {"forceinline": True, "_nrt": False}
    choose: Any = chooser["choose"]
    overload(scope["stub"], jit_options=options)(choose)
    done: Function = scope["stub"]
    return done
