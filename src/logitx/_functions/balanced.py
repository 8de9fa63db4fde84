"""Class weights of imbalanced classes."""

from __future__ import annotations

from typing import Never

from logitx._arguments import operands as _operands
from logitx._arguments.balanced import weights_of_ids
from logitx._arguments.cross_entropy import ignored_id
from logitx._arguments.plans import positive
from logitx._arrays.family import dtype_name
from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._labelled.table import without_labels
from logitx._plan import Array


@exact
def balanced_class_weight(
    labels: Array = MISSING,
    n: int = MISSING,
    /,
    *,
    ignore_index: int | None = -100,
    **wrong: Never,
) -> Array:
    """Class weights that give every class the same total weight, as ``class_weight="balanced"`` has them.

    With the number of labels of each class and that of the classes that occur::

        weight = number of labels / (classes that occur * labels of the class)

    Parameters
    ----------
    labels : array
        Integer class ids of any shape and of any array type.
    n : int
        The number of classes.
    ignore_index : int or None, default -100
        A class id that is not counted.

    Returns
    -------
    array
        One weight a class, of shape ``(n,)``. A class that does not occur has the weight 0. Over all labels the
        weights have the mean 1.

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed.
    ValueError
        For a number of classes below 1.

    References
    ----------
    G. King, L. Zeng, "Logistic regression in rare events data", Political Analysis 9 (2001); scikit-learn counts the
    same weights.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.balanced_class_weight(np.array([0, 0, 0, 1]), 3))
    [0.66666667 2.         0.        ]
    """
    if wrong:
        raise unexpected(balanced_class_weight, wrong)
    family, array = _operands.first_array("labels", without_labels(labels, "labels"))
    dtype = dtype_name(array.dtype)
    if not _operands.is_integer(dtype):
        raise TypeError(f"labels: dtype {dtype} is not allowed; allowed are integer class ids")
    return weights_of_ids(family, array, positive("n", n), ignored_id(ignore_index, hard=True))
