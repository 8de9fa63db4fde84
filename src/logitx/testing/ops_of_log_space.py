"""The rows of OPS for log_matmul and logcumsumexp."""

from __future__ import annotations

from logitx.testing import log_space
from logitx.testing.examples import Example, given
from logitx.testing.operation import Op

LOG_SPACE: tuple[Op, ...] = (
    Op(
        "log_matmul",
        log_space.product_grid,
        log_space.product_cases,
        log_space.log_matmul,
        labelled=False,
        ulps=4.0,
        why="two exponentials, a product and a sum of products, and the logarithm between the sum of two maxima",
        examples=(
            Example("by a vector", lambda i: given(i.x, i.y[0] * 40), (0, 1)),
            Example("of matrices", lambda i: given(i.x, i.y.T), (0, 1)),
        ),
        lacks={
            "memory": "the formulas make arrays of the shapes of the factors and of the product",
            "fuzz": "shapes that go together are drawn by the grid",
            "shards": "rows whose sums are small are computed one after another, which brings them together",
        },
    ),
    Op(
        "logcumsumexp",
        log_space.cumulative_grid,
        log_space.cumulative_cases,
        log_space.logcumsumexp,
        ulps=2.0,
        why="as logsumexp, of each beginning of a row",
        examples=(
            Example("plain", lambda i: given(i.x)),
            Example("reversed, along the first axis", lambda i: given(i.x, axis=0, reverse=True)),
        ),
        lacks={
            "memory": "the formulas make arrays of the shape of the logits",
            "fuzz": "it has no options but the axis and the direction",
        },
    ),
)
