"""Cross-entropy of a linear layer, without its logits in memory."""

from __future__ import annotations

from typing import Any, Literal, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._functions.loss_parts import call_layer
from logitx._plan import Array, Empty, Reduction, Scalar


@exact
def linear_cross_entropy(
    hidden: Array = MISSING,
    weight: Array = MISSING,
    targets: Array = MISSING,
    /,
    bias: Array | None = None,
    *,
    class_weight: Array | Literal["balanced"] | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    z_loss: Scalar = 0.0,
    softcap: Scalar | None = None,
    temperature: Scalar = 1.0,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    block_bytes: int = 33_554_432,
    return_parts: bool | str | list[str] | tuple[str, ...] = False,
    **wrong: Never,
) -> Any:
    """Cross-entropy of the logits of a linear layer, which are never in memory as a whole.

    The loss of `cross_entropy`, of these logits::

        x = hidden @ weight.T + bias

    In a language model the logits are the largest array there is, and their gradient is as large. Here they are made
    and used up in blocks.

    Parameters
    ----------
    hidden : array
        What goes into the layer, of shape (..., features) and of any array type.
    weight : array
        The weights of the layer, of shape (classes, features).
    targets : array
        Integer class ids, of the shape of `hidden` without its last axis; or floating probabilities, of that shape with
        an axis of the classes at its end. The dtype decides.
    bias : array, optional
        One number a class, added to the logits. A class with a bias of -inf does not take part.
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss
        As in `cross_entropy`. Rows that are ignored or have no weight are left out of the products, where array sizes
        may depend on data (arrays whose values are on the CPU); in JAX, on one device, blocks of such rows are.
    softcap, temperature : float or array, optional
        As in `softmax`; an array has one number, or one a row and a last axis of length 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`.
    empty : {"nan", "zero"}, default "nan"
        As in `cross_entropy`.
    block_bytes : int, default 33554432
        How much of the logits may be in memory at once, in bytes, in the dtype in which they are computed (float32, or
        float64 where an argument has it). Where that holds 128 rows, gradients cost no extra product.
    return_parts : bool or tuple of str, default False
        As in `cross_entropy`. Parts are made of the logits block by block, one product more; those of rows that are
        ignored or have no weight are made as well.

    Returns
    -------
    array
        The loss in nats, in the dtype in which the logits are computed: of the shape of `hidden` without its last axis
        for "none", else a scalar. With `return_parts` a pair of the loss and a named tuple, as from `cross_entropy`.

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed; for boolean targets.
    ValueError
        For a value or shape that is not allowed, and for a class id out of range, as in `cross_entropy`.

    Notes
    -----
    float16 and bfloat16 are multiplied and added up in float32. A row with a NaN or +inf among its logits gives NaN.
    What stands in rows that are ignored or have no weight has no influence, not even a NaN.

    References
    ----------
    E. Wijmans et al., "Cut your losses in large-vocabulary language models", arXiv:2411.09009 (2024).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> hidden, weight = np.array([[1.0, 0.0], [0.5, 2.0]]), np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> print(lx.linear_cross_entropy(hidden, weight, np.array([0, 1])).round(4))
    0.3236
    >>> print(lx.cross_entropy(hidden @ weight.T, np.array([0, 1])).round(4))
    0.3236
    """
    if wrong:
        raise unexpected(linear_cross_entropy, wrong)
    return call_layer(
        "linear_cross_entropy",
        hidden,
        weight,
        targets,
        bias,
        class_weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
        reduction,
        empty,
        block_bytes,
        return_parts,
    )


@exact
def linear_cross_entropy_value_and_grad(
    hidden: Array = MISSING,
    weight: Array = MISSING,
    targets: Array = MISSING,
    /,
    bias: Array | None = None,
    *,
    class_weight: Array | Literal["balanced"] | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    z_loss: Scalar = 0.0,
    softcap: Scalar | None = None,
    temperature: Scalar = 1.0,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    block_bytes: int = 33_554_432,
    return_parts: bool | str | list[str] | tuple[str, ...] = False,
    **wrong: Never,
) -> Any:
    """Cross-entropy of a linear layer and its gradients, in one go, for every array type.

    With the gradient ``g`` by the logits, as `cross_entropy_value_and_grad` gives it, of one row a sample::

        dhidden = g @ weight,   dweight = g.T @ hidden,   dbias = sum of g over the rows

    Parameters
    ----------
    hidden, weight, targets, bias
        As in `linear_cross_entropy`.
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, temperature
        As in `linear_cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `linear_cross_entropy`; for "none" the gradients are those of the sum.
    empty, block_bytes, return_parts
        As in `linear_cross_entropy`.

    Returns
    -------
    loss : array
        As from `linear_cross_entropy`, in nats.
    gradients : tuple
        The gradients ``(dhidden, dweight, dbias)``, each of the shape and dtype of its array (integers: of the default
        floating-point dtype); the last is None without a bias.

    Raises
    ------
    TypeError
        As `linear_cross_entropy`.
    ValueError
        As `linear_cross_entropy`.

    Notes
    -----
    Gradients of float16 and bfloat16 are added up in float32 and rounded once. They are exactly 0 in rows that are
    ignored or have no weight, and so is what these rows add to the gradient by the weights.

    References
    ----------
    As for `linear_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> hidden, weight = np.array([[1.0, 2.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
    >>> loss, (dhidden, dweight, dbias) = lx.linear_cross_entropy_value_and_grad(hidden, weight, np.array([0]))
    >>> print(loss.round(4), dhidden.tolist(), dweight.tolist(), dbias)
    0.6931 [[-1.0, 0.5]] [[-0.5, -1.0], [0.5, 1.0]] None
    """
    if wrong:
        raise unexpected(linear_cross_entropy_value_and_grad, wrong)
    return call_layer(
        "linear_cross_entropy_value_and_grad",
        hidden,
        weight,
        targets,
        bias,
        class_weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
        reduction,
        empty,
        block_bytes,
        return_parts,
    )
