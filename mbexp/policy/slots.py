"""The slots of a policy: for each, the key that names its rule, what the rule is given and what it must return.

A rule is a compiled function. The decorators below compile one for its slot; the same function serves every mode that
uses the slot, and no event loop is compiled again for it.
"""

from __future__ import annotations

import dis
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.config.choices import rule_names
from mbexp.config.places import and_place
from mbexp.config.plugins import Broken, load_object
from mbexp.errors import UserError, nearest
from mbexp.policy.parameters import with_named_parameters
from mbexp.policy.views import (
    ARRIVAL_TYPE,
    BOUNDS_TYPE,
    GPUS_TYPE,
    INTERVAL_TYPE,
    QUEUE_TYPE,
    QUEUES_TYPE,
    WAITING_TYPE,
)

FloatArray = npt.NDArray[np.float64]

_float, _int = types.float64, types.int64
_floats = types.Array(_float, 1, "C")


class RuleFunction(Protocol):
    """A compiled rule: takes the views of its slot and returns one number."""

    def __call__(self, *views: Any) -> Any: ...


@dataclass(frozen=True)
class Slot:
    """A place in a policy for one rule.

    Attributes
    ----------
    key : str
        Key of the configuration that names the rule.
    module : str
        Module of `mbexp.policy` with the rules that mbexp has.
    decorator : str
        What compiles a rule for the slot (`mbexp.rules`).
    signature : Numba signature
        Of the rule; the last argument is the array of its parameters.
    memory : int
        Floats that a rule may keep to itself for each owner, beyond one for each queue or share of GPUs.
    """

    key: str
    module: str
    decorator: str
    signature: Any
    memory: int

    @property
    def type(self) -> Any:
        """Type of a rule as a value."""
        return types.FunctionType(self.signature)

    def built_ins(self) -> tuple[RuleFunction, ...]:
        """Return the rules that mbexp has, in the order of `mbexp.config.choices.rule_names`."""
        module = importlib.import_module(f"mbexp.policy.{self.module}")
        return tuple(getattr(module, name) for name in rule_names(self.module))


# limit(interval, bounds, state, parameters) -> the most requests that may run together, at least 1.
#   Called before the run, and at the end of every interval of the owner. `state` starts as zeros and is the owner's
#   own; where batches run to completion, its first four numbers are stored with each batch as b_mem, b_sla,
#   controller_low and controller_high.
LIMIT = Slot(
    "scheduler.batch_size", "limit", "batch_limit", _int(INTERVAL_TYPE, BOUNDS_TYPE, _floats, _floats), memory=128
)
# select(now_s, queues, memory, parameters) -> one of the ready queues. `memory` starts as zeros and is the rule's own.
SELECTION = Slot(
    "scheduler.selection", "selection", "bin_selection", _int(_float, QUEUES_TYPE, _floats, _floats), memory=64
)
# fill(queue, parameters) -> the instant at which a queue may send its batch; infinity where more must come first.
FILL = Slot("scheduler.fill", "fill", "batch_fill", _float(QUEUE_TYPE, _floats), memory=0)
# assign(gpus, request, memory, parameters) -> the GPU that an arriving request is given to. `memory` starts as zeros
# and is the rule's own, one number a share first.
ASSIGNMENT = Slot(
    "execution.assignment", "assignment", "assignment", _int(GPUS_TYPE, ARRIVAL_TYPE, _floats, _floats), memory=64
)
# rank(now_s, request, parameters) -> the key of a request that waits; the smallest goes first, ties by arrival. A rule
# that does not read `now_s` is asked once, when a request joins its queue; one that does, whenever it matters.
ORDER = Slot("scheduler.order", "order", "queue_order", _float(_float, WAITING_TYPE, _floats), memory=0)
SLOTS = (LIMIT, SELECTION, FILL, ASSIGNMENT, ORDER)


class BuiltIn:
    """A rule of mbexp. It is compiled when it is first called or taken as a value: loops inline most, and call few.

    Attributes
    ----------
    py_func : function
        As it is written, but for the names of its parameters.
    signature : Numba signature
        Of its slot.
    parameters : dict of str to float
        The defaults of those that it declares.
    """

    def __init__(self, function: Callable[..., Any], signature: Any, parameters: Mapping[str, float]) -> None:
        self.py_func, self.signature, self.parameters = function, signature, parameters
        self.__name__, self.__doc__, self.__module__ = function.__name__, function.__doc__, function.__module__

    @functools.cached_property
    def value(self) -> RuleFunction:
        """The compiled function."""
        done: RuleFunction = compiled(self.signature)(self.py_func)
        return done

    @property
    def nopython_signatures(self) -> tuple[Any, ...]:
        """As a compiled function has them."""
        return (self.signature,)

    @property
    def _numba_type_(self) -> Any:
        return self.value._numba_type_  # type: ignore[attr-defined]

    def __call__(self, *views: Any) -> Any:
        return self.value(*views)


def value_of(function: RuleFunction) -> RuleFunction:
    """Return a rule as the compiled function that loops take as a value."""
    return function.value if isinstance(function, BuiltIn) else function


@dataclass(frozen=True)
class Rule:
    """A rule with its numbers, ready for a loop.

    Attributes
    ----------
    function : compiled function
        Of the signature of its slot.
    parameters : float64 array
        Handed to it.
    memory : int
        Floats that it keeps for each owner.
    """

    function: RuleFunction
    parameters: FloatArray
    memory: int


def _decorator(slot: Slot) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any] | None = None, /, **parameters: float) -> Any:
        def build(function: Callable[..., Any]) -> RuleFunction | Broken:
            if function.__module__.startswith("mbexp.policy."):
                if parameters:
                    function, _ = with_named_parameters(function, list(parameters), len(slot.signature.args))
                return BuiltIn(function, slot.signature, parameters)
            try:
                named, needed = with_named_parameters(function, list(parameters), len(slot.signature.args))
                rule: RuleFunction = compiled(slot.signature)(named)
            except UserError as error:  # the other rules of the file can be used
                return Broken(error)
            rule.parameters, rule.needed = parameters, needed  # type: ignore[attr-defined]
            return rule

        return build if function is None else build(function)

    decorate.__name__ = slot.decorator
    decorate.__doc__ = f"""Compile a rule for ``{slot.key}``; a decorator.

    Keyword arguments name parameters of the rule with their defaults: ``@{slot.decorator}(patience_s=2.0)``. The rule
    reads them as ``parameters.patience_s``, and ``scheduler.parameters.patience_s=1,2,4`` sweeps them.
    """
    return decorate


batch_limit, bin_selection, batch_fill, assignment, queue_order = (_decorator(slot) for slot in SLOTS)


def find_rule(slot: Slot, name: str, numbers: Mapping[str, float] | Sequence[float]) -> Rule:
    """Return the rule of the user's own that a dotted path names, with its parameters.

    Parameters
    ----------
    numbers
        ``scheduler.parameters``: by the names that the rule declared, or in their order.

    Raises
    ------
    UserError
        If there is none, it is not a rule of the slot, or it has no such parameter.
    """
    function = load_object(slot.key, name)
    # Without the compiler, rules are plain functions, and cannot be checked.
    plain = numba.config.DISABLE_JIT and callable(function)  # type: ignore[attr-defined]
    signatures = [known.args for known in getattr(function, "nopython_signatures", [])]
    if not plain and slot.signature.args not in signatures:
        other = next((each.decorator for each in SLOTS if each.signature.args in signatures), None)
        found = f"a rule for another slot ({other})" if other else "not a rule of this kind"
        place = and_place(function)
        raise UserError(f"{slot.key}={name}{place}: {found}; decorate it with mbexp.rules.{slot.decorator}")
    values = numbers_of(function, numbers)
    if len(values) < getattr(function, "needed", 0):
        raise UserError(
            f"scheduler.parameters: {name}{and_place(function)} reads {function.needed} numbers and is given "
            f"{len(values)}; give a list, or declare them: @{slot.decorator}(name=default)"
        )
    return Rule(function, values, slot.memory)


def check_names(rules: Sequence[Rule | None], numbers: Mapping[str, float] | Sequence[float]) -> None:
    """Refuse names in ``scheduler.parameters`` that no rule of the user's declared."""
    known = {name for rule in rules if rule for name in getattr(rule.function, "parameters", {})}
    for name in numbers if isinstance(numbers, Mapping) else ():
        if name not in known and not name.isdigit():
            listed = f"; declared are {', '.join(sorted(known))}" if known else "; no rule here declares any"
            raise UserError(f"scheduler.parameters.{name}: no rule has such a parameter{nearest(name, known)}{listed}")
    if len(numbers) and not known and not any(rule and _is_own(rule) for rule in rules):
        raise UserError("scheduler.parameters: only a rule of your own reads them, and none is named here")


def _is_own(rule: Rule) -> bool:
    function = getattr(rule.function, "py_func", rule.function)
    return not str(function.__module__).startswith("mbexp.policy.")


def reads(rule: Rule, name: str | None = None) -> bool:
    """Return whether a rule ever looks at something of this name; by default at its first argument, the time."""
    function: Any = getattr(rule.function, "py_func", rule.function)
    sought = function.__code__.co_varnames[0] if name is None else name
    loaded = (step.argval for step in dis.get_instructions(function) if step.opname.startswith("LOAD_"))
    return any(sought in names if isinstance(names, tuple) else names == sought for names in loaded)


def numbers_of(function: object, given: Mapping[str, float] | Sequence[float]) -> FloatArray:
    """Return the parameters of a rule in the order in which it declared them.

    A command line sets a number of a list as if its place were a name: ``scheduler.parameters.0=2.5``.
    """
    declared: Mapping[str, float] = getattr(function, "parameters", {})
    by_name = given if isinstance(given, Mapping) else {str(place): number for place, number in enumerate(given)}
    count = max(len(declared), *(int(name) + 1 for name in by_name if name.isdigit()), 0)
    names = [*declared, *(str(place) for place in range(len(declared), count))]
    usual = [*declared.values(), *([0.0] * (count - len(declared)))]
    return np.array(
        [by_name.get(name, by_name.get(str(place), usual[place])) for place, name in enumerate(names)], np.float64
    )
