"""Robust least squares on relative errors, with intervals of the parameters and cross-validated errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.fit.forms import LawForm, Parameter
from mbexp.fit.points import Points

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
FOLDS = 5
# The soft-L1 loss bends at this many robust standard deviations: nearly least squares on clean data, and a point far
# out counts by its distance instead of the square of it.
BEND = 2.0
ORDINARY = 0.05  # relative scatter of ordinary measurements
# A parameter whose standard error is a larger share of it than this, at ordinary scatter, is not determined.
DOUBT = 0.3


@dataclass(frozen=True)
class Estimate:
    """A parameter, its interval, and how it came about: ``fitted``, ``at its bound`` or ``assumed``."""

    key: str
    value: float
    low: float
    high: float
    state: str


@dataclass(frozen=True)
class Errors:
    """Errors of predictions over points: R^2 in seconds, and relative errors."""

    points: int
    r_squared: float
    median_pct: float
    worst_pct: float


@dataclass(frozen=True)
class Fit:
    """A fitted form of law.

    Attributes
    ----------
    estimates : tuple of Estimate
        In the order of the form's parameters.
    fitted : Errors
        Over the points that were fitted.
    cross_validated : Errors
        Each point predicted by a fit to the other folds.
    predicted : Errors or None
        Over points of the file that were not fitted, but are within the form's reach (whole batches, for a roofline).
    rows : bool array
        Which points of the file were fitted.
    residual_pct : float64 array, shape (n,)
        Of every point of the file that the form predicts, fitted or not; NaN elsewhere.
    """

    form: LawForm
    estimates: tuple[Estimate, ...]
    fitted: Errors
    cross_validated: Errors
    predicted: Errors | None
    rows: npt.NDArray[np.bool_]
    residual_pct: FloatArray

    @property
    def values(self) -> dict[str, float]:
        """Parameters by the names they have in ``gpu.law``."""
        return {estimate.key: estimate.value for estimate in self.estimates}


def fit_form(form: LawForm, points: Points) -> Fit:
    """Fit `form` to `points`.

    The relative error of each point, T_predicted / T - 1, is weighed by a soft-L1 loss that bends at `BEND` robust
    standard deviations. Intervals are those of an M-estimator (Huber, Robust Statistics, 1981, section 7.6) with the
    quantile of Student's t, cut at the bounds; they take the form of the law to be true and the errors independent.
    A parameter that the points do not determine is left at its assumption.

    Raises
    ------
    UserError
        If there are fewer points than parameters.
    """
    rows = form.rows(points)
    chosen = points.take(rows)
    if len(chosen) <= len(form.parameters):
        raise UserError(
            f"{points.source}: {len(chosen)} points are too few for the {len(form.parameters)} parameters of the "
            f"{form.kind} law"
        )
    theta, free, scale = _solve(form, chosen)
    low, high = _intervals(form, chosen, theta, free, scale)
    estimates = []
    for index, parameter in enumerate(form.parameters):
        state = "fitted" if free[index] else "assumed"
        if free[index] and _at_bound(parameter, theta[index]):
            state = "at its bound"
        estimates.append(Estimate(parameter.key, float(theta[index]), float(low[index]), float(high[index]), state))
    predicted_s = form.predict(theta, points)
    reach = rows | (points.phase == "static")
    residual_pct = np.where(reach, 100 * (predicted_s / points.seconds - 1), np.nan)
    held_out = reach & ~rows
    return Fit(
        form=form,
        estimates=tuple(estimates),
        fitted=errors(chosen.seconds, predicted_s[rows]),
        cross_validated=errors(chosen.seconds, _cross_validate(form, chosen)),
        predicted=errors(points.seconds[held_out], predicted_s[held_out]) if held_out.any() else None,
        rows=rows,
        residual_pct=residual_pct,
    )


def errors(seconds: FloatArray, predicted_s: FloatArray) -> Errors:
    """Compare predictions with times."""
    relative_pct = 100 * np.abs(predicted_s / seconds - 1)
    total = float(np.sum((seconds - seconds.mean()) ** 2))
    return Errors(
        points=len(seconds),
        r_squared=1 - float(np.sum((seconds - predicted_s) ** 2)) / total if total > 0 else float("nan"),
        median_pct=float(np.median(relative_pct)),
        worst_pct=float(np.max(relative_pct)),
    )


def _solve(form: LawForm, points: Points) -> tuple[FloatArray, npt.NDArray[np.bool_], float]:
    """Return parameters, which of them are free, and the robust standard deviation of the relative errors."""
    free = np.ones(len(form.parameters), np.bool_)
    assumed = np.array([parameter.assumed for parameter in form.parameters])
    # Parameters that could not be told apart even if the assumptions held would only make the search wander.
    while (doubtful := _undetermined(form, points, assumed, free, None)) is not None:
        free[doubtful] = False
    while True:
        theta, scale = _minimize(form, points, free)
        doubtful = _undetermined(form, points, theta, free, scale)
        if doubtful is None:
            return theta, free, scale
        free[doubtful] = False


def _minimize(form: LawForm, points: Points, free: npt.NDArray[np.bool_]) -> tuple[FloatArray, float]:
    from scipy.optimize import least_squares

    assumed = np.array([parameter.assumed for parameter in form.parameters])
    low = np.array([parameter.low for parameter in form.parameters])[free]
    high = np.array([parameter.high for parameter in form.parameters])[free]

    def relative(values: FloatArray) -> FloatArray:
        theta = assumed.copy()
        theta[free] = values
        return form.predict(theta, points) / points.seconds - 1

    def search(start: FloatArray, **loss: object) -> tuple[float, FloatArray]:
        start = np.clip(start, low + 1e-9, high - 1e-9)
        result = least_squares(relative, start, bounds=(low, high), x_scale=assumed[free], xtol=1e-10, ftol=1e-10,
                               gtol=1e-10, max_nfev=300, **loss)  # type: ignore[arg-type]  # fmt: skip
        return float(result.cost), result.x

    # The roofline has kinks, so the search starts from several places.
    found = min((search(assumed[free] * factor) for factor in (1.0, 0.5, 0.2, 1.5)), key=lambda each: each[0])[1]
    scale = _spread(relative(found))
    for _ in range(3):
        found = search(found, loss="soft_l1", f_scale=BEND * scale)[1]
        scale = _spread(relative(found))
    theta = assumed.copy()
    # The search stays a hair inside its bounds.
    found = np.where(found - low < 1e-9 * assumed[free], low, found)
    theta[free] = np.where(high - found < 1e-9, high, found)
    return theta, scale


def _spread(residuals: FloatArray) -> float:
    """Return a standard deviation that outliers do not move."""
    return max(1.4826 * float(np.median(np.abs(residuals))), 1e-6)


def _undetermined(
    form: LawForm, points: Points, theta: FloatArray, free: npt.NDArray[np.bool_], scale: float | None
) -> int | None:
    """Return the least determined optional parameter, None where all are determined."""
    optional = np.array([parameter.optional for parameter in form.parameters])
    if not (free & optional).any():
        return None
    assumed = np.array([parameter.assumed for parameter in form.parameters])
    # By how much the prediction changes as a parameter changes by its own size.
    effect = np.abs(_jacobian(form, points, theta) * assumed)
    without = np.flatnonzero(free & optional & (effect.max(axis=0) < 1e-6))
    if len(without):
        return int(without[0])
    # A law that fits badly has wide intervals; what matters here is what points of ordinary scatter would determine.
    error = _standard_errors(form, points, theta, free, scale) * min(1.0, ORDINARY / (scale or ORDINARY))
    ratio = np.where(free & optional, error / np.maximum(theta, 0.1 * assumed), 0.0)
    worst = len(ratio) - 1 - int(np.argmax(ratio[::-1]))
    return worst if ratio[worst] > DOUBT else None


def _standard_errors(
    form: LawForm, points: Points, theta: FloatArray, free: npt.NDArray[np.bool_], scale: float | None
) -> FloatArray:
    """Return the standard error of each free parameter; `scale` None takes the scatter to be ordinary."""
    predicted_s = form.predict(theta, points)
    jacobian = _jacobian(form, points, theta)[:, free]
    if scale is None:
        jacobian *= (points.seconds / predicted_s)[:, None]
        variance = ORDINARY**2
    else:
        residuals = predicted_s / points.seconds - 1
        z = (residuals / (BEND * scale)) ** 2
        psi, slope = residuals / np.sqrt(1 + z), (1 + z) ** -1.5
        degrees = len(points) - int(free.sum())
        variance = float(np.sum(psi**2)) / degrees / float(np.mean(slope)) ** 2
    columns = np.linalg.norm(jacobian, axis=0)
    columns[columns == 0] = 1.0
    information = (jacobian / columns).T @ (jacobian / columns)
    spread = np.full(len(theta), np.inf)
    if np.linalg.cond(information) < 1e12:
        spread[free] = np.sqrt(variance * np.diag(np.linalg.inv(information))) / columns
    return spread


def _intervals(
    form: LawForm, points: Points, theta: FloatArray, free: npt.NDArray[np.bool_], scale: float
) -> tuple[FloatArray, FloatArray]:
    from scipy.stats import t

    half = t.ppf(0.5 + LEVEL / 2, len(points) - free.sum()) * _standard_errors(form, points, theta, free, scale)
    low = np.array([parameter.low for parameter in form.parameters])
    high = np.array([parameter.high for parameter in form.parameters])
    half = np.where(free, half, np.nan)
    return np.maximum(theta - half, low), np.minimum(theta + half, high)


def _jacobian(form: LawForm, points: Points, theta: FloatArray) -> FloatArray:
    columns = []
    for index, parameter in enumerate(form.parameters):
        step = 1e-6 * max(theta[index], 0.1 * parameter.assumed)
        up, down = theta.copy(), theta.copy()
        up[index] += step
        down[index] -= step
        columns.append((form.predict(up, points) - form.predict(down, points)) / (2 * step) / points.seconds)
    return np.stack(columns, axis=1)


def _at_bound(parameter: Parameter, value: float) -> bool:
    tolerance = 1e-6 * parameter.assumed
    return value <= parameter.low + tolerance or value >= parameter.high - tolerance


def _cross_validate(form: LawForm, points: Points) -> FloatArray:
    """Predict every point from a fit to the other folds."""
    fold = np.random.default_rng(np.random.SeedSequence([0, 0])).permutation(len(points)) % FOLDS
    predicted_s = np.empty(len(points))
    for number in range(FOLDS):
        out = fold == number
        if out.any():
            theta = _solve(form, points.take(~out))[0]
            predicted_s[out] = form.predict(theta, points.take(out))
    return predicted_s
