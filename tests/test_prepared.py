"""Prepared calls: the second call with the same types, shapes, dtypes and options gives what the first would."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx import _prepared

ROWS, N = 5, 7


def _arrays(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(ROWS, N)).astype(np.float32),
        "b": rng.normal(size=(ROWS, N)).astype(np.float32),
        "ids": rng.integers(0, N, ROWS),
        "where": rng.random((ROWS, N)) < 0.7,
        "class_weight": rng.random(N),
        "sample_weight": rng.random(ROWS).astype(np.float32),
        "temperature": 0.5 + rng.random((ROWS, 1)),
    }


CALLS = {
    "softmax where": lambda a: lx.softmax(a["x"], where=a["where"]),
    "softmax where out": lambda a: lx.softmax(a["x"], where=a["where"], out=np.empty_like(a["x"])),
    "softmax temperature": lambda a: lx.log_softmax(a["x"], temperature=a["temperature"]),
    "softmax axes": lambda a: lx.softmax(a["x"], axis=(1, 0)),
    "logsumexp b": lambda a: lx.logsumexp(a["x"], b=a["b"], return_sign=True),
    "logsumexp where": lambda a: lx.logsumexp(a["x"], axis=0, where=a["where"][:1], keepdims=True),
    "merge": lambda a: lx.merge_logsumexp(a["x"], a["b"]),
    "loss": lambda a: lx.cross_entropy(a["x"], a["ids"], class_weight=a["class_weight"], return_parts=True),
    "loss and gradient": lambda a: lx.cross_entropy_value_and_grad(
        a["x"], a["ids"], sample_weight=a["sample_weight"], where=a["where"], label_smoothing=0.1, reduction="none"
    ),
    "soft targets": lambda a: lx.cross_entropy(a["x"], np.abs(a["b"]), class_weight=a["class_weight"]),
    "smoothing in an array": lambda a: lx.cross_entropy(a["x"], a["ids"], label_smoothing=a["class_weight"][0]),
    "grad_hess": lambda a: lx.cross_entropy_grad_hess(a["x"], a["ids"], sample_weight=a["sample_weight"]),
    "linear": lambda a: lx.linear_cross_entropy(a["x"], a["b"], a["ids"] % ROWS, sample_weight=a["sample_weight"]),
}


def _flat(value: Any) -> list[Any]:
    return [x for one in value for x in _flat(one)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("name", CALLS)
def test_repeated_call_depends_on_its_own_arrays(name: str) -> None:
    """Numbers, strides and the order of calls leave no trace in the next call."""
    call, first, second = CALLS[name], _arrays(0), _arrays(1)
    strided = {key: np.repeat(one, 2, axis=-1)[..., ::2] for key, one in second.items()}
    _prepared._prepared.cache_clear()
    wanted = call(second)  # the first call of its kind: checked in full
    _prepared._prepared.cache_clear()
    call(first)
    for arrays in (second, strided, second):
        for found, right in zip(_flat(call(arrays)), _flat(wanted), strict=True):
            np.testing.assert_array_equal(found, right)
            assert type(found) is type(right)


def test_repeated_call_with_array_options_is_prepared() -> None:
    """The second call with a mask or with weights does not go through `_dispatch.run`."""
    for name in ("softmax where", "logsumexp b", "merge", "loss", "loss and gradient", "soft targets", "grad_hess"):
        CALLS[name](_arrays(0))
        before = _prepared._prepared.cache_info()
        CALLS[name](_arrays(1))
        after = _prepared._prepared.cache_info()
        assert (after.hits, after.misses) == (before.hits + 1, before.misses), name


def test_numbers_are_checked_in_every_call() -> None:
    """A temperature, a smoothing or a label that is not allowed is found although the call before was right."""
    arrays = _arrays(0)
    for _ in range(2):
        lx.softmax(arrays["x"], temperature=arrays["temperature"])
        lx.cross_entropy(arrays["x"], arrays["ids"], class_weight=arrays["class_weight"])
        lx.cross_entropy(arrays["x"], arrays["ids"], label_smoothing=np.array(0.1))
    with pytest.raises(ValueError, match=r"^temperature: 0\.0 is not allowed"):
        lx.softmax(arrays["x"], temperature=0 * arrays["temperature"])
    with pytest.raises(ValueError, match=r"^targets: class id 7 at position \(0,\)"):
        lx.cross_entropy(arrays["x"], arrays["ids"] * 0 + N, class_weight=arrays["class_weight"])
    with pytest.raises(ValueError, match=r"^label_smoothing: 2\.0 is not allowed"):
        lx.cross_entropy(arrays["x"], arrays["ids"], label_smoothing=np.array(2.0))


def test_cache_keeps_no_array() -> None:
    """Options that are arrays or tensors die with the caller's last reference."""
    arrays = _arrays(0)
    weight = arrays["class_weight"].astype(np.float32)
    seen = [weakref.ref(weight)]
    lx.cross_entropy(arrays["x"], arrays["ids"], class_weight=weight)
    del weight
    torch = pytest.importorskip("torch")
    tensor = torch.ones(N)
    seen.append(weakref.ref(tensor))
    lx.cross_entropy(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["ids"]), class_weight=tensor)
    del tensor
    assert [one() for one in seen] == [None, None]


def test_weights_that_are_made_of_the_labels_are_made_anew() -> None:
    """Balanced class weights depend on the labels of each call."""
    for seed in range(3):
        arrays = _arrays(seed)
        weights = lx.balanced_class_weight(arrays["ids"], N)
        wanted = lx.cross_entropy(arrays["x"], arrays["ids"], class_weight=weights)
        found = lx.cross_entropy(arrays["x"], arrays["ids"], class_weight="balanced")
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_extreme_weights_after_ordinary_ones(shape: tuple[int, ...], name: str) -> None:
    """A mean depends on the ratios of its weights alone, also where the call before had weights of another size."""
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name) if name == "bfloat16" else name)
    small = 1e-6 if name == "float16" else 1e-39
    logits, ids = np.zeros(shape, np.float32), np.zeros(shape[:-1], np.int64)
    for option, like in (("class_weight", np.ones(3)), ("sample_weight", np.ones(shape[:-1]))):
        ordinary, extreme = (np.asarray(size * like).astype(dtype) for size in (1.0, small))
        wanted = lx.cross_entropy_value_and_grad(logits, ids, **{option: ordinary})
        found = lx.cross_entropy_value_and_grad(logits, ids, **{option: extreme})
        for one, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-6)
