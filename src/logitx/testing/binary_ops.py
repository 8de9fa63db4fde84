"""The rows of OPS for the binary family and the focal losses."""

from __future__ import annotations

from logitx.testing import binary, focal
from logitx.testing.examples import Example, given
from logitx.testing.operation import Op

BINARY: tuple[Op, ...] = (
    Op(
        "sigmoid",
        binary.sigmoid_grid,
        binary.sigmoid_special,
        binary.sigmoid,
        ulps=2.0,
        why="exp, a sum and a division",
        reduces=False,
        examples=(Example("plain", lambda i: given(i.x)),),
        fuzz="elements",
    ),
    Op(
        "log_sigmoid",
        binary.sigmoid_grid,
        binary.sigmoid_special,
        binary.log_sigmoid,
        ulps=2.0,
        why="exp, log1p and a sum",
        reduces=False,
        examples=(Example("plain", lambda i: given(i.x)),),
        fuzz="elements",
    ),
    Op(
        "binary_cross_entropy",
        binary.loss_grid,
        binary.loss_special,
        binary.loss,
        ulps=2.0,
        why="the logarithms of both probabilities, their products with the targets and weights, and sums",
        examples=(
            Example("plain", lambda i: given(i.x, i.where)),
            Example("of each element", lambda i: given(i.x, i.where, reduction="none")),
            Example(
                "of probabilities, weighted",
                lambda i: given(i.x, i.probabilities, pos_weight=i.class_weight, label_smoothing=i.tenth),
                (0, 1, "pos_weight", "label_smoothing"),
            ),
            Example(
                "masked",
                lambda i: given(i.x, i.where, where=i.where, sample_weight=i.probabilities),
                (0, "sample_weight"),
            ),
        ),
        fuzz="binary losses",
    ),
    Op(
        "binary_cross_entropy_value_and_grad",
        binary.loss_grid,
        binary.loss_special,
        binary.loss_and_gradient,
        ulps=2.0,
        why="as binary_cross_entropy; for the gradient both probabilities and their products",
        examples=(
            Example("plain", lambda i: given(i.x, i.where)),
            Example("of probabilities", lambda i: given(i.x, i.probabilities, pos_weight=i.class_weight), (0, 1)),
        ),
        fuzz="binary losses",
    ),
    Op(
        "binary_cross_entropy_grad_hess",
        binary.grad_hess_grid,
        binary.grad_hess_special,
        binary.grad_hess,
        ulps=2.0,
        why="both probabilities, their products and weights",
        examples=(Example("plain", lambda i: given(i.x, i.where)),),
        fuzz="binary losses",
    ),
    Op(
        "focal_loss",
        focal.row_grid,
        focal.row_special,
        focal.loss,
        ulps=2.0,
        why="as cross_entropy, and a power of 1 - p",
        examples=(
            Example("plain", lambda i: given(i.x, i.some)),
            Example("weighted", lambda i: given(i.x, i.some, gamma=i.half, class_weight=i.class_weight), (0, "gamma")),
            Example("of probabilities", lambda i: given(i.x, i.probabilities, where=i.where), (0, 1)),
        ),
        fuzz="losses",
        lacks={"memory": "arrays of one number a row beside the kernels of cross-entropy; formulas for probabilities"},
    ),
    Op(
        "focal_loss_value_and_grad",
        focal.row_grid,
        focal.row_special,
        focal.loss_and_gradient,
        ulps=2.0,
        why="as cross_entropy, and a power of 1 - p",
        examples=(
            Example("plain", lambda i: given(i.x, i.some)),
            Example("weighted", lambda i: given(i.x, i.some, gamma=i.half, class_weight=i.class_weight), (0, "gamma")),
            Example("of probabilities", lambda i: given(i.x, i.probabilities, where=i.where), (0, 1)),
        ),
        fuzz="losses",
        lacks={"memory": "arrays of one number a row beside the kernels of cross-entropy; formulas for probabilities"},
    ),
    Op(
        "binary_focal_loss",
        focal.element_grid,
        focal.element_special,
        binary.loss,
        ulps=2.0,
        why="as binary_cross_entropy, and powers of both probabilities",
        examples=(
            Example("plain", lambda i: given(i.x, i.where)),
            Example(
                "of probabilities",
                lambda i: given(i.x, i.probabilities, gamma=i.half, alpha=i.tenth),
                (0, "gamma", "alpha"),
            ),
        ),
        fuzz="binary losses",
    ),
    Op(
        "binary_focal_loss_value_and_grad",
        focal.element_grid,
        focal.element_special,
        binary.loss_and_gradient,
        ulps=2.0,
        why="as binary_cross_entropy, and powers of both probabilities",
        examples=(
            Example("plain", lambda i: given(i.x, i.where)),
            Example(
                "of probabilities",
                lambda i: given(i.x, i.probabilities, gamma=i.half, alpha=i.tenth),
                (0, "gamma", "alpha"),
            ),
        ),
        fuzz="binary losses",
    ),
)
