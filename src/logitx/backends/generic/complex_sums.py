"""Log-sum-exp of complex numbers, relative to the term with the largest real part.

What is not finite is computed as ``log(sum of b exp(x))`` is, by the rules of C for complex numbers, as SciPy does.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan


class _Polar(NamedTuple):
    """A complex sum: the logarithm of its size, and its phase."""

    size: Array
    phase: Array


def complex_logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """Return the logarithm, its phase in (-pi, pi]; or with ``plan.return_sign`` the size and the sum over its size."""
    family, axis = FAMILIES[plan.family], plan.layout.axis
    xp, kind = family.namespace(x), namespace_dtype(family.namespace(x), plan.dtype)
    x = xp.astype(x, kind, copy=False)
    b = None if b is None else xp.astype(b, kind, copy=False)
    used = where
    if log_b is not None:
        log_b = xp.astype(log_b, kind, copy=False)
        used = _both(used, xp.real(log_b) != -xp.inf)
        x = xp.where(xp.real(log_b) != -xp.inf, x + log_b, x)
    if b is not None:
        used = _both(used, b != 0.0)
        b = xp.where(used, b, xp.zeros_like(b))
    if used is not None:
        x = xp.where(used, x, xp.zeros_like(x) - xp.inf)
    if plan.layout.n == 0:
        empty = xp.sum(x, axis=axis) - xp.inf
        return (xp.real(empty), xp.zeros_like(empty)) if plan.return_sign else (empty, None)
    found = _polar(plan, xp, x, b)
    fine = family.detach(xp.isfinite(found.size) & xp.isfinite(found.phase))
    terms = xp.exp(xp.where(fine, xp.zeros_like(x), x))
    direct = xp.sum(terms if b is None else b * terms, axis=axis, keepdims=True)
    if plan.return_sign:
        sign = _joined(xp, kind, xp.cos(found.phase), xp.sin(found.phase))
        value = xp.where(fine, found.size, xp.log(xp.abs(direct)))
        results = (value, xp.where(fine, sign, xp.sign(direct)))
    else:
        value = _joined(xp, kind, xp.where(fine, found.size, 0.0), _wrapped(xp, xp.where(fine, found.phase, 0.0)))
        results = (xp.where(fine, value, xp.log(direct)), None)
    squeezed = [None if one is None else xp.squeeze(one, axis=axis) for one in results]
    return squeezed[0], squeezed[1]


def _both(one: Array, two: Array) -> Array:
    return two if one is None else one & two


def _joined(xp: Any, kind: Any, real: Array, imaginary: Array) -> Array:
    return xp.astype(real, kind) + xp.astype(imaginary, kind) * 1j


def _wrapped(xp: Any, phase: Array) -> Array:
    """Return a phase in (-pi, pi]; one that is there already keeps all its digits."""
    turned = -((-phase + math.pi) % (2.0 * math.pi) - math.pi)
    return xp.where(xp.abs(phase) < math.pi, phase, turned)


def _polar(plan: Plan, xp: Any, x: Array, b: Array) -> _Polar:
    """Return the sum as m (1 + r), with its term of the largest real part left out of r."""
    axis, lay, detach = plan.layout.axis, plan.layout, FAMILIES[plan.family].detach
    real, imaginary = xp.real(x), xp.imag(x)
    live = real > -xp.inf
    place = xp.argmax(detach(xp.where(live, real, -xp.inf)), axis=axis, keepdims=True)
    device = FAMILIES[plan.family].device(x)
    numbers = xp.arange(lay.n, dtype=place.dtype, **({} if device is None else {"device": device}))
    top = xp.reshape(numbers, tuple(lay.n if d == axis else 1 for d in range(len(lay.shape)))) == place
    peak, turn = (xp.sum(xp.where(top, part, 0.0), axis=axis, keepdims=True) for part in (real, imaginary))
    others = live & ~top
    distance, angle = xp.where(others, real - peak, 0.0), xp.where(others, imaginary - turn, 0.0)
    e = xp.where(others, xp.exp(distance), 0.0)
    across, up = e * xp.cos(angle), e * xp.sin(angle)
    if b is not None:
        m = xp.sum(xp.where(top, b, xp.zeros_like(b)), axis=axis, keepdims=True)
        share = b / m
        of_real, of_imaginary = xp.real(share), xp.imag(share)
        across, up = across * of_real - up * of_imaginary, across * of_imaginary + up * of_real
        peak, turn = peak + xp.log(xp.abs(m)), turn + xp.atan2(xp.imag(m), xp.real(m))
    u, v = (xp.sum(part, axis=axis, keepdims=True) for part in (across, up))
    near = u > -0.5
    more = 0.5 * xp.log1p(xp.where(near, u * (2.0 + u) + v * v, 0.0))
    less = 0.5 * xp.log(xp.where(near, 1.0, (1.0 + u) ** 2 + v * v))
    return _Polar(peak + more + less, turn + xp.atan2(v, 1.0 + u))
