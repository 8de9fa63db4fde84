"""Labelled, masked and lazy arrays: what went in comes out, with its labels, and operands are matched by theirs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import logitx as lx

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((3, 4)).astype(np.float32)
IDS = np.array([1, 3, 0])
ROWS, CLASSES = ["a", "b", "c"], ["w", "x", "y", "z"]


@pytest.mark.parametrize("library", ["pandas", "polars", "xarray", "dask"])
def test_importing_and_calling_loads_no_library_of_labels(library: str) -> None:
    program = f"""
import sys, numpy as np, logitx as lx
lx.softmax(np.ma.array([1.0, 2.0], mask=[True, False]))
try:
    lx.softmax(object())
except TypeError:
    pass
sys.exit({library!r} in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# -- masked arrays of NumPy -------------------------------------------------------------------------------------------

MASK = np.array([[True, False, False, False], [False] * 4, [True] * 4])


def masked(x: np.ndarray = X) -> Any:
    """Hide what would leak."""
    return np.ma.MaskedArray(np.where(MASK, np.nan, x).astype(x.dtype), MASK)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": None}, {"temperature": 2.0, "softcap": 3.0}], ids=str)
def test_a_mask_becomes_where(op: str, options: dict[str, Any]) -> None:
    found = getattr(lx, op)(masked(), **options)
    assert type(found) is np.ma.MaskedArray
    np.testing.assert_array_equal(found.mask, MASK)
    np.testing.assert_array_equal(found.data, getattr(lx, op)(X, where=~MASK, **options))
    assert found.dtype == np.float32


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [-1, 0])
def test_rows_are_masked_where_all_of_a_row_is(axis: int, keepdims: bool) -> None:
    found = lx.logsumexp(masked(), axis, keepdims=keepdims)
    np.testing.assert_array_equal(found.mask, MASK.all(axis, keepdims=keepdims))
    np.testing.assert_array_equal(found.data, lx.logsumexp(X, axis, where=~MASK, keepdims=keepdims))


def test_masked_scalars() -> None:
    assert lx.logsumexp(np.ma.array([1.0, 2.0], mask=True)) is np.ma.masked
    assert lx.logsumexp(np.ma.array([1.0, 2.0])) == lx.logsumexp([1.0, 2.0])
    assert lx.softmax(np.ma.array([1.0, 2.0])).mask is np.ma.nomask
    assert lx.softmax(np.ma.array(1.0)) == 1


def test_masked_losses() -> None:
    where = RANDOM.random((3, 4)) < 0.8
    for also in (None, where, where[0]):
        both = ~MASK if also is None else ~MASK & also
        expected = lx.cross_entropy_value_and_grad(X, IDS, where=both, return_parts=True, z_loss=0.1)
        found = lx.cross_entropy_value_and_grad(masked(), IDS, where=also, return_parts=True, z_loss=0.1)
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1].data, expected[1])
        np.testing.assert_array_equal(found[1].mask, MASK)
        np.testing.assert_array_equal(found[2].log_normalizer.mask, [False, False, True])
        np.testing.assert_array_equal(found[2].log_normalizer.data, expected[2].log_normalizer)
        assert found[2].z_loss == expected[2].z_loss
    losses = lx.cross_entropy(masked(), IDS, reduction="none")
    np.testing.assert_array_equal(losses.mask, [False, False, True])


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "bool"])
def test_a_mask_where_there_is_no_option_for_it(dtype: str) -> None:
    x = X.astype(dtype)
    hidden = np.ma.MaskedArray(x, MASK)
    ids = np.array([1, 3, 0])
    expected = lx.cross_entropy_value_and_grad(x, ids, where=~MASK, reduction="sum")[1]
    gradient, hessian = lx.cross_entropy_grad_hess(hidden, ids)
    np.testing.assert_allclose(gradient.data, expected, rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(hessian.data[MASK], 0)
    np.testing.assert_array_equal(hessian.mask, MASK)
    assert gradient.dtype == (dtype if dtype.startswith("float") else "float64")


def test_derivatives_of_masked_arrays() -> None:
    p, dp = lx.softmax(masked()), np.ma.MaskedArray(np.where(MASK, np.nan, X), MASK)
    for cotangent in (dp, np.where(MASK, 0, X)):
        found = lx.softmax_vjp(p, cotangent)
        np.testing.assert_array_equal(found.data, lx.softmax_vjp(p.data, np.where(MASK, 0, X)))
        np.testing.assert_array_equal(found.mask, MASK)
    log_p = lx.log_softmax(masked())
    np.testing.assert_array_equal(lx.log_softmax_vjp(log_p, dp).data, lx.log_softmax_vjp(log_p.data, X * ~MASK))


def test_merging_masked_parts() -> None:
    a, b = np.ma.array([1.0, 2.0, 3.0], mask=[1, 0, 0]), np.ma.array([1.0, 2.0, 3.0], mask=[0, 0, 1])
    for found in (lx.merge_logsumexp(a, b), lx.merge_logsumexp(b, a)):
        np.testing.assert_array_equal(found.mask, [True, False, True])
        assert found[1] == lx.merge_logsumexp(2.0, 2.0)
    np.testing.assert_array_equal(lx.merge_logsumexp(1.0, a).mask, a.mask)
    np.testing.assert_array_equal(lx.merge_logsumexp(a[:1], b).mask, [True] * 3)


OPERANDS = {"targets": IDS, "where": X > -1, "sample_weight": np.ones(3), "class_weight": np.ones(4)}


@pytest.mark.parametrize("name", OPERANDS)
@pytest.mark.parametrize("logits", [X, np.ma.array(X)], ids=["plain", "masked"])
def test_operands_with_masked_entries_are_refused(logits: Any, name: str) -> None:
    def loss(x: Any, operands: dict[str, Any]) -> Any:
        return lx.cross_entropy(x, operands["targets"], **{k: v for k, v in operands.items() if k != "targets"})

    value, mask = OPERANDS[name], np.zeros(OPERANDS[name].shape, dtype=bool)
    assert loss(logits, {**OPERANDS, name: np.ma.MaskedArray(value, mask)}) == loss(X, OPERANDS)
    mask.flat[1] = True
    with pytest.raises(ValueError, match=f"^{name}: has masked entries; allowed are none, fill them first"):
        loss(logits, {**OPERANDS, name: np.ma.MaskedArray(value, mask)})


def test_nothing_is_written_to_a_masked_array() -> None:
    with pytest.raises(TypeError, match="^out: nothing is written to a MaskedArray; allowed is None"):
        lx.softmax(masked(), out=np.empty((3, 4), np.float32))
    with pytest.raises(TypeError, match="^out: MaskedArray is not allowed"):
        lx.softmax(X, out=masked())


# -- pandas -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas", reason="pandas is not installed")


def frame(pd: Any, x: Any = X) -> Any:
    made = pd.DataFrame(x, index=pd.Index(ROWS, name="row"), columns=pd.Index(CLASSES, name="class"))
    made.attrs["unit"] = "nats"
    return made


def test_frames_keep_index_columns_and_attributes(pd: Any) -> None:
    x = frame(pd)
    p = lx.softmax(x)
    pd.testing.assert_frame_equal(p, frame(pd, lx.softmax(X)))
    assert p.attrs == {"unit": "nats"}
    by_row, by_class = lx.logsumexp(x), lx.logsumexp(x, axis="index")
    pd.testing.assert_series_equal(by_row, pd.Series(lx.logsumexp(X), index=x.index))
    pd.testing.assert_series_equal(by_class, pd.Series(lx.logsumexp(X, 0), index=x.columns))
    pd.testing.assert_series_equal(lx.logsumexp(x, axis="columns"), by_row)
    assert isinstance(lx.logsumexp(x, axis=None), np.float32)
    kept = lx.logsumexp(x, keepdims=True)
    assert kept.index.equals(x.index)
    assert kept.shape == (3, 1)
    series = pd.Series(X[0], index=CLASSES, name="scores")
    pd.testing.assert_series_equal(lx.softmax(series), pd.Series(lx.softmax(X[0]), index=CLASSES, name="scores"))


def test_losses_of_frames(pd: Any) -> None:
    x, ids = frame(pd), pd.Series(IDS, index=ROWS)
    loss, dlogits = lx.cross_entropy_value_and_grad(x, ids)
    assert loss == lx.cross_entropy(X, IDS)
    pd.testing.assert_frame_equal(dlogits, frame(pd, lx.cross_entropy_value_and_grad(X, IDS)[1]))
    each, parts = lx.cross_entropy(x, ids, reduction="none", return_parts=True)
    pd.testing.assert_index_equal(each.index, x.index)
    pd.testing.assert_series_equal(parts.log_normalizer, lx.logsumexp(x))
    gradient, hessian = lx.cross_entropy_grad_hess(x, ids.astype("Int64"))  # pandas' own dtype
    pd.testing.assert_index_equal(hessian.columns, gradient.columns)
    assert lx.cross_entropy(X, ids) == loss, "with a plain array a Series is its numbers"
    soft = frame(pd, lx.softmax(X[::-1].copy()))
    assert lx.cross_entropy(x, soft) == lx.cross_entropy(X, soft.to_numpy())


@pytest.mark.parametrize("name", ["targets", "soft", "where", "sample_weight", "class_weight"])
def test_other_labels_are_refused(pd: Any, name: str) -> None:
    x = frame(pd)
    operands = {
        "targets": pd.Series(IDS, index=ROWS),
        "where": frame(pd, X > -1),
        "sample_weight": pd.Series([1.0, 2.0, 3.0], index=ROWS),
        "class_weight": pd.Series([1.0, 2.0, 3.0, 4.0], index=CLASSES),
    }
    if name == "soft":
        name, operands["targets"] = "targets", frame(pd, lx.softmax(X))

    def loss() -> Any:
        return lx.cross_entropy(x, operands["targets"], **{k: v for k, v in operands.items() if k != "targets"})

    assert loss() > 0
    operands[name] = operands[name].iloc[::-1]
    with pytest.raises(ValueError, match=f"^{name}: its labels are not those of the logits; allowed are the same"):
        loss()


def test_frames_of_what_has_no_numbers(pd: Any) -> None:
    with pytest.raises(TypeError, match="^x: dtype object is not allowed"):
        lx.softmax(pd.DataFrame({"a": [1.0], "b": ["text"]}))
    with pytest.raises(TypeError, match="^targets: dtype object is not allowed"):
        lx.cross_entropy(X, pd.Series(["w", "x", "y"], index=ROWS, dtype=object))
    with pytest.raises(
        ValueError, match="^axis: 'rows' is not a dimension; allowed are 'index', 'columns' and integers"
    ):
        lx.softmax(frame(pd), axis="rows")
    with pytest.raises(TypeError, match="^out: nothing is written to a DataFrame; allowed is None"):
        lx.softmax(frame(pd), out=frame(pd))
    subclass = type("Frame", (pd.DataFrame,), {})
    with pytest.raises(TypeError, match="^x: Frame is not an array type that logitx knows"):
        lx.softmax(subclass(X))


def test_which_sees_through_labels(pd: Any) -> None:
    assert lx.which("cross_entropy", frame(pd), IDS).backend == lx.which("cross_entropy", X, IDS).backend


# -- polars -----------------------------------------------------------------------------------------------------------


def test_polars() -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    x = pl.DataFrame(X, schema=CLASSES)
    p = lx.softmax(x)
    assert (p.columns, p.dtypes) == (CLASSES, [pl.Float32] * 4)
    np.testing.assert_array_equal(p.to_numpy(), lx.softmax(X))
    np.testing.assert_array_equal(lx.logsumexp(x).to_numpy(), lx.logsumexp(X))
    by_column = lx.logsumexp(x, axis=0)
    assert by_column.columns == CLASSES
    np.testing.assert_array_equal(by_column.to_numpy(), [lx.logsumexp(X, 0)])
    assert lx.logsumexp(x, keepdims=True).shape == (3, 1)
    series = lx.softmax(pl.Series("scores", X[0]))
    assert series.name == "scores"
    assert lx.logsumexp(pl.Series("scores", X[0])) == lx.logsumexp(X[0])
    loss, dlogits = lx.cross_entropy_value_and_grad(x, pl.Series("label", IDS))
    assert loss == lx.cross_entropy(X, pl.Series(IDS)) == lx.cross_entropy(X, IDS)
    assert dlogits.columns == CLASSES
    with pytest.raises(ValueError, match="^where: columns .* are not those of the logits"):
        lx.softmax(x, where=(x > 0).select(CLASSES[::-1]))
    with pytest.raises(ValueError, match="^targets: has nulls; allowed are none, fill them first"):
        lx.cross_entropy(x, pl.Series([0, None, 1]))
    with pytest.raises(ValueError, match="^x: has nulls"):
        lx.softmax(pl.DataFrame({"a": [1.0, None]}))
    with pytest.raises(TypeError, match="^x: LazyFrame is not an array type that logitx knows"):
        lx.softmax(x.lazy())


# -- xarray -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def xr() -> Any:
    return pytest.importorskip("xarray", reason="xarray is not installed")


def array(xr: Any, x: Any = X) -> Any:
    coords = {"row": ROWS, "class": CLASSES, "pair": (("row", "class"), X), "of_row": ("row", [7, 8, 9]), "run": 3}
    return xr.DataArray(x, dims=("row", "class"), coords=coords, attrs={"unit": "nats"}, name="logits")


def test_data_arrays_keep_dims_coords_and_attrs(xr: Any) -> None:
    x = array(xr)
    xr.testing.assert_identical(lx.softmax(x), array(xr, lx.softmax(X)))
    xr.testing.assert_identical(lx.softmax(x, axis="row"), array(xr, lx.softmax(X, 0)))
    xr.testing.assert_identical(lx.softmax(x, axis=("class", 0)), array(xr, lx.softmax(X, (1, 0))))
    reduced = lx.logsumexp(x, "class")
    assert reduced.dims == ("row",)
    assert set(reduced.coords) == {"row", "of_row", "run"}
    assert (reduced.name, reduced.attrs) == ("logits", {"unit": "nats"})
    kept = lx.logsumexp(x, axis="row", keepdims=True)
    assert kept.dims == x.dims
    assert set(kept.coords) == {"class", "run"}
    everything = lx.logsumexp(x, axis=None)
    assert everything.dims == ()
    assert set(everything.coords) == {"run"}
    assert float(everything) == float(lx.logsumexp(X, None))


def test_operands_are_matched_by_name(xr: Any) -> None:
    x, ids = array(xr), xr.DataArray(IDS, dims="row", coords={"row": ROWS})
    where, heat = xr.DataArray(X > -1, dims=x.dims).T, xr.DataArray([1.0, 2.0, 3.0], dims="row")
    expected = lx.softmax(X, where=X > -1, temperature=np.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_array_equal(lx.softmax(x, where=where, temperature=heat), expected)
    by_row = xr.DataArray([True, False, True], dims="row")
    np.testing.assert_array_equal(lx.softmax(x, where=by_row)[1], [0.0] * 4)
    weight = xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="class", coords={"class": CLASSES})
    loss, dlogits = lx.cross_entropy_value_and_grad(x.T, ids, axis="class", class_weight=weight, sample_weight=heat)
    there = lx.cross_entropy_value_and_grad(X, IDS, class_weight=weight.values, sample_weight=heat.values)
    np.testing.assert_allclose(float(loss), there[0], rtol=1e-6)
    np.testing.assert_allclose(dlogits.transpose(*x.dims), there[1], rtol=1e-5, atol=1e-7)
    assert dlogits.dims == ("class", "row")
    soft = lx.softmax(x * 2)
    assert float(lx.cross_entropy(x, soft.T)) == float(lx.cross_entropy(X, soft.values))
    assert set(lx.cross_entropy(x, ids, reduction="none").coords) == {"row", "of_row", "run"}
    merged = lx.merge_logsumexp(x, lx.logsumexp(x, "class"))
    np.testing.assert_array_equal(merged, lx.merge_logsumexp(X, lx.logsumexp(X, keepdims=True)))
    boards = xr.DataArray(X.reshape(3, 2, 2), dims=("n", "i", "j"))
    flat = xr.DataArray([[1.0, 2.0], [3.0, 4.0]], dims=("j", "i"))  # the other way round
    found = lx.cross_entropy(boards, IDS, axis=("i", "j"), class_weight=flat)
    assert float(found) == float(lx.cross_entropy(X, IDS, class_weight=flat.values.T.reshape(-1)))


def test_operands_of_other_names_or_labels_are_refused(xr: Any) -> None:
    x = array(xr)
    with pytest.raises(ValueError, match="^targets: labels along 'row' are not those of the logits; allowed are the"):
        lx.cross_entropy(x, xr.DataArray(IDS, dims="row", coords={"row": ROWS[::-1]}))
    with pytest.raises(
        ValueError, match=r"^targets: dimensions \('n',\) are not allowed; allowed are those of \('row'"
    ):
        lx.cross_entropy(x, xr.DataArray(IDS, dims="n"))
    with pytest.raises(ValueError, match="^temperature: dimensions .* are not allowed"):
        lx.softmax(x, temperature=xr.DataArray(np.ones(4), dims="class"))
    with pytest.raises(ValueError, match="^targets: shape .* for one-hot targets pass argmax"):
        lx.cross_entropy(x, xr.DataArray(np.ones((4, 3), int), dims=("class", "row")))
    with pytest.raises(ValueError, match="^axis: 'time' is not a dimension; allowed are 'row', 'class' and integers"):
        lx.softmax(x, axis="time")
    with pytest.raises(TypeError, match="^x: Dataset is not an array type that logitx knows"):
        lx.softmax(xr.Dataset({"x": x}))


def test_multi_indexes_survive(xr: Any, pd: Any) -> None:
    index = pd.MultiIndex.from_product([["p", "q"], [0, 1]], names=["letter", "digit"])
    x = xr.DataArray(X, dims=("row", "class"), coords=xr.Coordinates.from_pandas_multiindex(index, "class"))
    assert lx.softmax(x).indexes["class"].equals(index)
    assert lx.logsumexp(x, axis="row").indexes["class"].equals(index)
    assert set(lx.logsumexp(x, axis="class").coords) == set()


@pytest.mark.parametrize("chunks", [(2, 2), (1, 4), (3, 1)])
def test_lazy_arrays_stay_lazy(xr: Any, chunks: tuple[int, int]) -> None:
    dask = pytest.importorskip("dask", reason="dask is not installed")
    dask_array = pytest.importorskip("dask.array", reason="dask is not installed")
    x = X.copy()
    x[0, 1], x[1] = -np.inf, -np.inf
    lazy = array(xr, dask_array.from_array(x, chunks=chunks))
    ids = xr.DataArray(dask_array.from_array(IDS, chunks=2), dims="row")

    def computed_too_early(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed")

    with dask.config.set(scheduler=computed_too_early):
        results = (
            lx.softmax(lazy, axis="class", where=lazy > -1, temperature=xr.DataArray([1.0, 2.0, 3.0], dims="row")),
            lx.log_softmax(lazy, axis="row", dtype="float64"),
            lx.logsumexp(lazy.astype("float16"), axis=("class", "row")),
            lx.cross_entropy(lazy, ids, label_smoothing=0.1, z_loss=0.1),
            lx.cross_entropy_value_and_grad(lazy, IDS)[1],
        )
    expected = (
        lx.softmax(x, where=x > -1, temperature=[[1.0], [2.0], [3.0]]),
        lx.log_softmax(x, axis=0, dtype="float64"),
        lx.logsumexp(x.astype("float16"), axis=None),
        lx.cross_entropy(x, IDS, label_smoothing=0.1, z_loss=0.1),
        lx.cross_entropy_value_and_grad(x, IDS)[1],
    )
    for one, there in zip(results, expected, strict=True):
        assert isinstance(one.data, dask_array.Array)
        assert one.dtype == there.dtype
        np.testing.assert_allclose(one.compute(), there, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["Float64", "Float32", "Int64", "boolean"])
def test_frames_of_the_dtypes_of_pandas(dtype):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame({"a": [1.0, 0.0], "b": [1.0, 1.0]}).astype(dtype)
    found = lx.softmax(frame)
    right = lx.softmax(frame.to_numpy(dtype="float32" if dtype == "Float32" else "float64"))
    np.testing.assert_array_equal(found.to_numpy(), right, strict=True)
    frame.iloc[0, 0] = pd.NA
    np.testing.assert_array_equal(np.isnan(lx.logsumexp(frame)), [True, False])
    with pytest.raises(TypeError, match="^x: dtype object is not allowed"):
        lx.softmax(pd.DataFrame({"a": [1.0], "b": ["x"]}))
