"""Every defect found in the libraries of this field is a case of the suite, and passes here.

A defect is met either by a named case (with the row of it), or by a pair of options in one case of the grid. Defects of
functions that logitx does not have (sparse softmaxes, vocabulary-parallel losses) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from logitx.testing import OPS, TARGETS, Case, Cell, Op, check


@dataclass(frozen=True)
class Defect:
    """What went wrong elsewhere, and where the suite looks for it."""

    where: str
    what: str
    op: str
    case: str = ""
    row: str = ""
    dtype: str = "float32"
    pair: tuple[str, ...] = ()  # "option=level" entries that must stand together in one case

    @property
    def id(self) -> str:
        return f"{self.where}: {self.what}".replace(" ", "_")

    def met_by(self, op: Op) -> list[Case]:
        """Return the cases that would show the defect."""
        if self.pair:
            return [case for case in op.cases() if set(self.pair) <= set(case.name.partition(": ")[2].split(", "))]
        return [case for case in op.cases(self.dtype) if case.name == self.case]


SOFT, LOG, LSE = "softmax", "log_softmax", "logsumexp"
LOSS, GRAD = "cross_entropy", "cross_entropy_value_and_grad"

DEFECTS = (
    Defect("SciPy", "int8 differences wrap around", SOFT, "int8 wraparound", dtype="integer"),
    Defect("SciPy", "uint8 differences wrap around", LOG, "uint8 wraparound", dtype="integer"),
    Defect("SciPy", "float16 sum overflows in softmax", SOFT, "float16 sum of 70000", dtype="float16"),
    Defect("SciPy", "float16 sum overflows in log_softmax", LOG, "float16 sum of 70000", dtype="float16"),
    Defect("SciPy", "float16 sum overflows in logsumexp", LSE, "float16 sum of 70000", dtype="float16"),
    Defect("SciPy", "dominating maximum is lost (scipy#19521)", LOG, "special rows", "dominating maximum"),
    Defect("SciPy", "all -inf row: NaN here, -inf there", SOFT, "special rows, empty=zero", "all -inf"),
    Defect("SciPy", "all -inf row of logsumexp", LSE, "special rows", "all -inf"),
    Defect("SciPy", "+inf row of log_softmax is half NaN", LOG, "special rows", "+inf"),
    Defect("SciPy", "empty axis raises", SOFT, "axis of length 0"),
    Defect("SciPy", "empty axis of logsumexp", LSE, "axis of length 0"),
    Defect("tokamax", "padding of the last block is counted", LOSS, pair=("n=4097", "dtype=bfloat16")),
    Defect("tokamax", "padding of the last block is counted, gradient", GRAD, pair=("n=1000", "dtype=float32")),
    Defect("tokamax", "running sum kept in half precision", LSE, "bfloat16 sum of 3000", dtype="bfloat16"),
    Defect("Unsloth", "softcap makes padding finite", LOSS, pair=("softcap=20.0", "where=full")),
    Defect("Unsloth", "softcap makes -inf finite", GRAD, "rows, scaled", "other class at -inf"),
    Defect("Megatron", "smoothing takes log of an underflowed p", LOSS, "rows, smoothed, empty=zero",
           "label 200 below the maximum"),
    Defect("Megatron", "104 below the maximum is -inf", LOG, "special rows", "104 below the maximum"),
    Defect("Keras", "ids compared in the dtype of logits", LOSS, "label 257 beside ignore_index 256", dtype="bfloat16"),
    Defect("Keras", "ids compared in their own dtype", LOSS, "uint8 label congruent to ignore_index"),
    Defect("Keras", "smoothing counts classes along another axis", LOSS, pair=("label_smoothing=0.1", "axes=first")),
    Defect("TensorFlow", "smoothing counts classes along another axis", LOSS,
           pair=("label_smoothing=0.1", "axes=middle")),
    Defect("entmax", "a negative ignore_index ignores nothing", LOSS, "rows", "ignored"),
    Defect("PyTorch", "mean of soft labels forgets class weights", LOSS,
           "mean with class weights, one-hot soft labels"),
    Defect("PyTorch", "smoothing with weights (pytorch#104776)", LOSS, "mean with all weights and smoothing"),
    Defect("PyTorch", "smoothing with ignored rows (pytorch#73205)", LOSS, pair=("label_smoothing=0.1", "ignore=some")),
    Defect("PyTorch", "weights with ignored rows (pytorch#69339)", LOSS,
           "mean with class weights and ignored rows"),
    Defect("PyTorch", "non-contiguous out (pytorch#75923)", SOFT, pair=("out=new", "memory=strided")),
    Defect("PyTorch", "class axis is fixed (pytorch#29754)", GRAD, pair=("axes=unordered", "targets=int64")),
    Defect("PyTorch", "0 in a soft label times -inf", LOSS, "soft rows", "0 at -inf"),
    Defect("PyTorch", "gradient NaN where a logit is -inf (pytorch#31829)", GRAD, "rows", "other class at -inf"),
    Defect("PyTorch", "gradient NaN of an all -inf row (pytorch#49724)", GRAD, "rows", "all -inf"),
    Defect("PyTorch", "all ignored: NaN and no way out (pytorch#70348)", LOSS, "all ignored, empty=zero"),
    Defect("PyTorch", "all ignored: must be NaN", LOSS, "all ignored, empty=nan"),
    Defect("Liger-Kernel", "losses stored in bfloat16", LOSS, "bfloat16 loss of 36", dtype="bfloat16"),
    Defect("Liger-Kernel", "gradient p - 1 cancels", GRAD, "rows", "dominating label", "bfloat16"),
    Defect("Liger-Kernel", "z-loss not weighted", LOSS, "rows, weighted z-loss", "plain"),
    Defect("optax", "logit of a masked label", LOSS, "masked rows", "masked label"),
    Defect("optax", "smoothing leaks to masked classes (optax#1760)", LOSS, "masked rows, smoothed",
           "other class masked"),
    Defect("optax", "bfloat16 logits quantize the loss (optax#1020)", LOSS, "rows", "offset 10000", "bfloat16"),
    Defect("optax", "gradient of soft labels at -inf (optax#1786)", GRAD, "soft rows", "0 at -inf"),
    Defect("JAX", "a masked NaN leaks into the gradient (jax#17117)", GRAD, "masked rows", "masked NaN"),
    Defect("JAX", "a masked maximum overflows (jax#19490)", SOFT, "masked rows", "masked maximum"),
    Defect("JAX", "gradient at -inf (jax#6811)", GRAD, "rows", "label at -inf"),
    Defect("XLA", "softmax(x / T) beyond 2^31", SOFT, "tiny temperature"),
    Defect("TRL", "entropy of masked rows", LOG, "masked rows, empty=zero", "all masked"),
    Defect("marin", "probabilities from a rounded normalizer", GRAD, "rows", "offset 10000"),
    Defect("marin", "exp(x - logZ) at an offset", SOFT, "special rows", "offset 10000"),
    Defect("scikit-learn", "sample weights of zero", LOSS, "sample weight 0 on a NaN row"),
    Defect("ONNX Runtime", "labels on a middle axis", LOSS, pair=("axes=middle", "targets=int32")),
    Defect("Keras", "masked rows of softmax", SOFT, "masked rows, empty=zero", "all masked"),
    Defect("Keras", "integer label smoothing", GRAD, pair=("label_smoothing=0.1", "targets=int32")),
    Defect("CuPy", "unsigned integers", LOG, "uint8 wraparound", dtype="integer"),
    Defect("thinc", "temperature after the exponential", SOFT, "special rows, scaled", "104 below the maximum"),
)  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.id)
def test_defect_is_a_case(defect: Defect) -> None:
    op = next(row for row in OPS if row.name == defect.op)
    target = next(row for row in TARGETS if row.name == "numpy-generic")
    cases = defect.met_by(op)
    assert cases, "no case of the suite would show this defect"
    if defect.row:
        assert all(defect.row in case.rows for case in cases)
    assert not check(Cell(op, target, cases[0].dtype), cases).failures
