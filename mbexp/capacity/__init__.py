"""How many GPUs meet these targets, by the hour if asked, or how much traffic do these GPUs carry?

The package is also the function: ``mbexp.capacity(workload="synthetic", ...)`` returns a list of answers.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, **values: Any) -> list[Any]:
        """Return an answer for each choice, the cheapest first.

        An answer is an `Answer`, or a `Schedule` with ``find="schedule"``.

        Parameters
        ----------
        **values
            Keys of the configuration as for `mbexp.configure`, and keys of `mbexp.capacity.options.Options`. A tuple
            is a set of choices: ``gpu=("h100_llama31_8b", "a100_llama31_8b")``. Dotted keys stand in a dict:
            ``**{"sla.targets": ["ttft_p99_s<=1"]}``.

        Raises
        ------
        UserError
            If a key is wrong, or if no number of GPUs up to ``max_gpus`` is enough.
        """
        from mbexp.capacity.command import answers, as_overrides

        return answers(as_overrides(values))


sys.modules[__name__].__class__ = _Callable
