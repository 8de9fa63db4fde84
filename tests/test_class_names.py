"""Names of classes as targets: looked up among the labels of the logits; arrays and indexes of pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

CLASSES = ["cat", "dog", "eel"]
X = np.random.default_rng(0).standard_normal((4, 3))
IDS = np.array([0, 2, 1, 0])
NAMES = np.array(CLASSES)[IDS]
HIDDEN, WEIGHT = X[:, :2], X[:3, 1:]


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.mark.parametrize("kind", ["numpy", "object", "list", "Series", "string", "category", "Categorical", "Index"])
def test_names_of_columns_of_pandas(pd: Any, kind: str) -> None:
    series = pd.Series(NAMES)
    names = {
        "numpy": NAMES, "object": NAMES.astype(object), "list": list(NAMES), "Series": series.astype(object),
        "string": series.astype("string"), "category": series.astype("category"), "Categorical": pd.Categorical(NAMES),
        "Index": pd.Index(NAMES),
    }[kind]  # fmt: skip
    x = pd.DataFrame(X, columns=CLASSES)
    assert lx.cross_entropy(x, names) == lx.cross_entropy(X, IDS)
    assert lx.cross_entropy(x.T, names, axis=0) == lx.cross_entropy(X, IDS)
    gradient, _ = lx.cross_entropy_grad_hess(x, names)
    np.testing.assert_array_equal(gradient, lx.cross_entropy_grad_hess(X, IDS)[0])
    assert lx.CrossEntropy().update(x, names).result() == lx.CrossEntropy().update(X, IDS).result()
    hidden, weight = pd.DataFrame(HIDDEN), pd.DataFrame(WEIGHT, index=CLASSES)
    assert lx.linear_cross_entropy(hidden, weight, names) == lx.linear_cross_entropy(HIDDEN, WEIGHT, IDS)


@pytest.mark.parametrize("kind", ["String", "Categorical", "Enum"])
def test_names_of_columns_of_polars(kind: str) -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    names = pl.Series(NAMES.tolist(), dtype=pl.Enum(CLASSES) if kind == "Enum" else getattr(pl, kind))
    assert lx.cross_entropy(pl.DataFrame(X, schema=CLASSES), names) == lx.cross_entropy(X, IDS)


def test_names_of_coordinates_of_xarray() -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    x = xarray.DataArray(X, dims=("row", "class"), coords={"class": CLASSES})
    for names in (NAMES, xarray.DataArray(NAMES, dims="row")):
        assert lx.cross_entropy(x, names) == lx.cross_entropy(X, IDS)
        assert lx.cross_entropy(x.T, names, axis="class") == lx.cross_entropy(X, IDS)
    with pytest.raises(TypeError, match=r"^targets: dtype str.*Index\(names\).get_indexer\(targets\)"):
        lx.cross_entropy(x.drop_vars("class"), NAMES)


def test_categories_are_names_also_where_they_are_numbers(pd: Any) -> None:
    x, years = pd.DataFrame(X, columns=[2020, 2021, 2022]), pd.Series(IDS + 2020, dtype="category")
    assert lx.cross_entropy(x, years) == lx.cross_entropy(X, IDS)
    for categories in (years, pd.Categorical(IDS), pd.CategoricalIndex(IDS)):
        with pytest.raises(TypeError, match=r"^targets: dtype category .*get_indexer.* or the codes of the categories"):
            lx.cross_entropy(X, categories)


def test_names_that_are_no_class_are_refused(pd: Any) -> None:
    x = pd.DataFrame(X, columns=CLASSES)
    with pytest.raises(
        ValueError, match=r"^targets: 'cow' at position \(2,\) is not a class; allowed are 'cat', 'dog'"
    ):
        lx.cross_entropy(x, ["cat", "dog", "cow", "eel"])
    with pytest.raises(ValueError, match=r"^targets: nan at position \(1,\) is not a class"):
        lx.cross_entropy(x, pd.Series(["cat", None, "cat", "dog"]))
    with pytest.raises(ValueError, match="^targets: names of classes are not allowed where two classes have one name"):
        lx.cross_entropy(x.set_axis(["cat", "cat", "dog"], axis=1), NAMES)
    with pytest.raises(ValueError, match="^targets: its labels are not those of the logits"):
        lx.cross_entropy(x, pd.Series(NAMES, index=[1, 0, 2, 3]))
    for names in (NAMES, NAMES.tolist(), NAMES.astype(object)):
        with pytest.raises(TypeError, match=r"^targets: dtype .*; for names of classes .*get_indexer\(targets\)$"):
            lx.cross_entropy(X, names)


@pytest.mark.parametrize("dtype", ["Int64", "UInt8", "int64"])
def test_arrays_and_indexes_of_pandas_are_operands(pd: Any, dtype: str) -> None:
    for ids in (pd.array(IDS, dtype=dtype), pd.Index(IDS, dtype=dtype)):
        for x in (X, pd.DataFrame(X)):
            assert lx.cross_entropy(x, ids, sample_weight=pd.array([1.0] * 4)) == lx.cross_entropy(X, IDS)
    missing = "fill missing ones with ignore_index and convert with astype$"
    for ids in (pd.array([0, None, 1, 2], dtype="Int64"), pd.Series([0, None, 1, 2], dtype="Int64")):
        with pytest.raises(ValueError, match=missing):
            lx.cross_entropy(X, ids)


def test_arrays_and_indexes_of_pandas_come_back(pd: Any) -> None:
    expected = lx.softmax([1.0, 2.0])
    pd.testing.assert_index_equal(lx.softmax(pd.Index([1, 2], name="a")), pd.Index(expected, name="a"))
    pd.testing.assert_extension_array_equal(lx.softmax(pd.array([1.0, 2.0])), pd.array(expected))
    assert lx.logsumexp(pd.array([1.0, 2.0])) == lx.logsumexp([1.0, 2.0])
    sums = lx.segment_logsumexp(pd.array([1.0, 2.0, 3.0]), segment_ids=[0, 0, 1])
    pd.testing.assert_extension_array_equal(sums, pd.array([lx.logsumexp([1.0, 2.0]), 3.0]))
    kept = pd.Index([lx.logsumexp([1.0, 2.0])])
    pd.testing.assert_index_equal(lx.logsumexp(pd.Index([1.0, 2.0]), keepdims=True), kept)
    merged = lx.merge_logsumexp(pd.array([1.0, 2.0]), pd.array([1.0, 2.0]))
    pd.testing.assert_extension_array_equal(merged, pd.array(lx.merge_logsumexp([1.0, 2.0], [1.0, 2.0])))


def test_labels_of_two_kinds_are_refused(pd: Any) -> None:
    with pytest.raises(TypeError, match="^a: its labels and those of another argument are of two kinds; allowed are"):
        lx.merge_logsumexp(pd.Series([1.0]), np.ma.array([1.0]))
