"""Functions of segments: errors, labels, orders, and what peers get."""

from __future__ import annotations

import numpy as np
import pytest

import logitx as lx

FUNCTIONS = (lx.segment_softmax, lx.segment_log_softmax, lx.segment_logsumexp)
RNG = np.random.default_rng(0)
X, IDS = RNG.normal(size=(40, 3)), RNG.integers(0, 6, 40)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({}, TypeError, "^segment_ids, offsets: both are None; allowed is exactly one of the two$"),
        ({"segment_ids": IDS, "offsets": [0, 40]}, TypeError, "^segment_ids, offsets: both are given; "),
        ({"segment_ids": IDS[:-1]}, ValueError, r"^segment_ids: shape \(39,\) is not allowed; allowed is \(40,\)"),
        ({"segment_ids": IDS[:, None]}, ValueError, r"^segment_ids: shape \(40, 1\) is not allowed; allowed are vec"),
        ({"segment_ids": IDS * 1.0}, TypeError, "^segment_ids: dtype float64 is not allowed; allowed are integers$"),
        ({"segment_ids": IDS - 1}, ValueError, "^segment_ids: -1 is out of range; allowed are 0 to 4 "),
        ({"segment_ids": IDS, "num_segments": 5}, ValueError, "^segment_ids: 5 is out of range; allowed are 0 to 4 "),
        ({"segment_ids": IDS, "num_segments": -1}, ValueError, "^num_segments: -1 is not allowed; allowed are int"),
        ({"segment_ids": IDS, "num_segments": 6.0}, TypeError, "^num_segments: 6.0 is not allowed; allowed are None"),
        ({"segment_ids": IDS, "axis": None}, TypeError, "^axis: None is not allowed; allowed is an int"),
        ({"segment_ids": IDS, "axis": (0, 1)}, TypeError, r"^axis: \(0, 1\) is not allowed; allowed is an int"),
        ({"offsets": [0, 41]}, ValueError, "^offsets: from 0 to 41 are not allowed; allowed are numbers from 0 to 40"),
        ({"offsets": [0, 30, 20, 40]}, ValueError, "^offsets: from 0 to 40 are not allowed; .* none of them smaller"),
        ({"offsets": [0, 40], "num_segments": 2}, ValueError, "^offsets: length 2 is not allowed; allowed is 3, one"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_wrong_is_named(function, options, kind, message):
    with pytest.raises(kind, match=message):
        function(X, **options)


def test_what_is_wrong_with_the_first_array_or_the_targets_is_named():
    with pytest.raises(ValueError, match=r"^x: shape \(\) is not allowed; allowed are arrays with an axis of segments"):
        lx.segment_softmax(np.float64(1.0), segment_ids=[0])
    with pytest.raises(TypeError, match="^targets: dtype int64 is not allowed; allowed are floating-point prob"):
        lx.segment_cross_entropy(X, np.zeros(X.shape, np.int64), segment_ids=IDS)
    with pytest.raises(ValueError, match=r"^targets: shape \(40,\) is not allowed; allowed is exactly that of x"):
        lx.segment_cross_entropy(X, X[:, 0], segment_ids=IDS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_order_of_ids_changes_no_bit(function):
    order = np.argsort(IDS, kind="stable")
    offsets = np.searchsorted(IDS[order], np.arange(7))
    found = function(X, segment_ids=IDS)
    by_order, by_offsets = function(X[order], segment_ids=IDS[order]), function(X[order], offsets=offsets)
    assert np.array_equal(found if len(found) == 6 else found[order], by_order)
    assert np.array_equal(by_order, by_offsets)


def test_a_masked_entry_never_reaches_its_segment():
    x, where = np.array([0.0, np.nan, 1.0, np.inf]), np.array([True, False, True, False])
    ids = np.array([0, 0, 1, 1])
    assert np.array_equal(lx.segment_softmax(x, segment_ids=ids, where=where), [1, 0, 1, 0])
    assert np.array_equal(lx.segment_logsumexp(x, segment_ids=ids, where=where), [0, 1])


def test_ragged_rows_are_those_of_a_masked_matrix():
    lengths = np.array([3, 0, 5, 1])
    where = np.arange(5) < lengths[:, None]
    x = RNG.normal(size=(4, 5))
    found = lx.segment_log_softmax(x[where], offsets=np.append(0, lengths.cumsum()))
    np.testing.assert_allclose(found, lx.log_softmax(x, where=where)[where], rtol=1e-15)


def test_pandas_keeps_the_index_of_entries_and_numbers_segments():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": X[:, 0], "group": IDS}, index=np.arange(40) + 7)
    p = lx.segment_softmax(frame["x"], segment_ids=frame["group"])
    pd.testing.assert_series_equal(p, frame.groupby("group")["x"].transform(lx.softmax))
    value = lx.segment_logsumexp(frame["x"], segment_ids=frame["group"])
    pd.testing.assert_series_equal(value, frame.groupby("group")["x"].agg(lx.logsumexp), check_index=False)
    assert list(value.index) == list(range(6))
    with pytest.raises(ValueError, match="^segment_ids: its labels are not those of the logits"):
        lx.segment_softmax(frame["x"], segment_ids=frame["group"].reset_index(drop=True))


def test_xarray_keeps_dimensions_and_other_coordinates():
    xr = pytest.importorskip("xarray")
    x = xr.DataArray(X.T, dims=("head", "edge"), coords={"head": list("abc"), "edge": np.arange(40)})
    found = lx.segment_logsumexp(x, "edge", segment_ids=xr.DataArray(IDS, dims="edge"))
    assert found.dims == ("head", "edge")
    assert list(found.coords) == ["head"]
    assert found.shape == (3, 6)
    assert lx.segment_softmax(x, "edge", segment_ids=IDS).equals(x.copy(data=lx.segment_softmax(X, segment_ids=IDS).T))


def test_polars_and_masked_arrays():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"x": X[:, 0], "group": IDS})
    found = lx.segment_logsumexp(frame["x"], segment_ids=frame["group"])
    assert found.name == "x"
    assert found.len() == 6
    masked = np.ma.MaskedArray(X[:, 0], IDS == 2)
    assert lx.segment_logsumexp(masked, segment_ids=IDS)[2] == -np.inf
    assert np.array_equal(lx.segment_softmax(masked, segment_ids=IDS).mask, IDS == 2)


def test_jax_maps_and_traces_with_a_static_number_of_segments():
    jax = pytest.importorskip("jax")
    x, ids = X.T.astype("f4"), np.stack([IDS, IDS[::-1], (IDS + 1) % 6])
    found = jax.jit(jax.vmap(lambda x, ids: lx.segment_softmax(x, segment_ids=ids, num_segments=6)))(x, ids)
    for one, row, own in zip(np.asarray(found), x, ids, strict=True):
        np.testing.assert_allclose(one, lx.segment_softmax(row, segment_ids=own), rtol=1e-6)
    with pytest.raises(ValueError, match="^num_segments: None is not allowed where segment_ids cannot be read"):
        jax.jit(lambda x, ids: lx.segment_softmax(x, segment_ids=ids))(x[0], ids[0])


def test_an_id_out_of_range_that_cannot_be_read_is_nan_and_reaches_no_segment():
    jax = pytest.importorskip("jax")
    x, ids = np.zeros(4, "f4"), np.array([0, 0, 3, -1])
    options = {"num_segments": 2}
    p = jax.jit(lambda x, ids: lx.segment_softmax(x, segment_ids=ids, **options))(x, ids)
    assert np.array_equal(p, [0.5, 0.5, np.nan, np.nan], equal_nan=True)
    value = jax.jit(lambda x, ids: lx.segment_logsumexp(x, segment_ids=ids, **options))(x, ids)
    assert np.array_equal(value, np.array([np.log(2), -np.inf], "f4"))
    loss = jax.jit(lambda x, ids: lx.segment_cross_entropy(x, x + 0.5, segment_ids=ids, **options))(x, ids)
    assert np.allclose(loss, np.log(2))


def test_torch_func_reads_the_ids_that_it_does_not_map():
    torch = pytest.importorskip("torch")
    ids, x = torch.tensor([0, 1, 1, 2]), torch.linspace(0.0, 1.0, 4, dtype=torch.float64)
    function = lambda x, ids: (lx.segment_softmax(x, segment_ids=ids) ** 2).sum()  # noqa: E731
    right = torch.autograd.functional.vjp(lambda x: function(x, ids), x)[1]
    torch.testing.assert_close(torch.func.grad(lambda x: function(x, ids))(x), right)
    with pytest.raises(ValueError, match="num_segments: None is not allowed where"):
        torch.vmap(function)(x[None], ids[None])


def test_torch_compiles_it_whole():
    torch = pytest.importorskip("torch")
    x, ids = torch.tensor(X), torch.tensor(IDS)

    def attention(x, ids):
        return lx.segment_softmax(x, segment_ids=ids, num_segments=6)

    found = torch.compile(attention, fullgraph=True, backend="aot_eager")(x, ids)
    np.testing.assert_allclose(found.numpy(), lx.segment_softmax(X, segment_ids=IDS), rtol=1e-14)
