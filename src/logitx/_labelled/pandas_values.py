"""The values of pandas objects, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def values(x: Any) -> Any:
    """Return the values of a pandas object; nullable dtypes become NumPy's, with NaN for missing values."""
    dtypes = x.dtypes if x.ndim == 2 else [x.dtype]
    if any(isinstance(dtype, pd.CategoricalDtype) for dtype in dtypes):
        return x.to_numpy(dtype=object)  # categories are names, also where they are numbers
    array = x.to_numpy()
    kinds = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
    numeric = all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in kinds)
    if array.dtype != object or not numeric or not kinds:
        return array
    kind = np.result_type(*kinds)
    if kind.kind != "f" and np.any(x.isna()):
        kind = np.dtype(np.float64)
    return x.to_numpy(dtype=kind, na_value=np.nan) if kind.kind == "f" else x.to_numpy(dtype=kind)
