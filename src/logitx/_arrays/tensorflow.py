"""TensorFlow's operations by the names of the Array API: the few that the formulas use, and no more.

Dimensions that are not known while TensorFlow traces are None, in shapes as everywhere in TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from logitx._plan import Array

Shape = tuple[int | None, ...]

float16, bfloat16, float32, float64 = tf.float16, tf.bfloat16, tf.float32, tf.float64
int32, int64, bool = tf.int32, tf.int64, tf.bool  # noqa: A001  # their names in the standard
inf, nan = math.inf, math.nan

abs: Callable[..., Array] = tf.abs  # noqa: A001
exp, expm1, tanh, log, log1p = tf.exp, tf.math.expm1, tf.tanh, tf.math.log, tf.math.log1p
isnan, isinf, isfinite, maximum = tf.math.is_nan, tf.math.is_inf, tf.math.is_finite, tf.maximum
zeros_like, ones_like, permute_dims, squeeze = tf.zeros_like, tf.ones_like, tf.transpose, tf.squeeze
sum, max, min = tf.reduce_sum, tf.reduce_max, tf.reduce_min  # noqa: A001
any, all = tf.reduce_any, tf.reduce_all  # noqa: A001
stop_gradient = tf.stop_gradient
take_along_axis = tf.experimental.numpy.take_along_axis
complex64, complex128 = tf.complex64, tf.complex128
cos, sin, atan2, sign, real, imag = tf.cos, tf.sin, tf.atan2, tf.sign, tf.math.real, tf.math.imag
matrix_transpose = tf.linalg.matrix_transpose


def argmax(x: Array, axis: int, keepdims: Any = False) -> Array:
    """Return the place of the largest entry."""
    found = tf.argmax(x, axis)
    return tf.expand_dims(found, axis) if keepdims else found


def astype(x: Array, dtype: Any, copy: Any = False) -> Array:
    """Convert; an immutable array need not be copied."""
    return tf.cast(x, dtype)


def where(condition: Array, x: Array, y: Array) -> Array:
    """Choose; a number takes the dtype of the other argument."""
    if isinstance(x, float) and tf.is_tensor(y):
        x = tf.constant(x, y.dtype)
    return tf.where(condition, x, y)


def arange(stop: int, dtype: Any) -> Array:
    """Count."""
    return tf.range(stop, dtype=dtype)


def flip(x: Array, axis: int) -> Array:
    """Reverse the order along an axis."""
    return tf.reverse(x, [axis])


def expand_dims(x: Array, axis: int) -> Array:
    """Add an axis of length 1."""
    return tf.expand_dims(x, axis)


def concat(arrays: list[Array], axis: int = 0) -> Array:
    """Join arrays."""
    return tf.concat(arrays, axis)


def take(x: Array, indices: Array, axis: int) -> Array:
    """Choose along an axis by position. Along the first, gradients would be IndexedSlices: it is made the second."""
    return tf.gather(x[None], indices, axis=axis + 1)[0] if axis == 0 else tf.gather(x, indices, axis=axis)


def full_like(x: Array, value: float) -> Array:
    """Return an array like another that holds one number."""
    return tf.zeros_like(x) + value


def argsort(x: Array, stable: Any = True) -> Array:
    """Sort by position; equal elements stay in order."""
    return tf.argsort(x, stable=stable)


def searchsorted(x: Array, values: Array, side: str) -> Array:
    """Return where values would be inserted into a sorted vector."""
    return tf.searchsorted(x, values, side=side, out_type=tf.int64)


def iinfo(dtype: Any) -> Any:
    """Return the limits of an integer dtype."""
    return np.iinfo(dtype.as_numpy_dtype)


def reshape(x: Array, shape: Shape) -> Array:
    """Reshape; lengths that are not known stand in the same order before and after."""
    if shape.count(None) <= 1:
        return tf.reshape(x, [-1 if length is None else length for length in shape])
    unknown = [axis for axis, length in enumerate(x.shape) if length is None]
    if not unknown:  # an operand that is the same along all of them
        return tf.reshape(x, [1 if length is None else length for length in shape])
    if len(unknown) != shape.count(None):
        raise ValueError(
            f"where: of shape {tuple(x.shape)} it is not known which lengths of the logits it has; allowed are known"
            " lengths, set them with tensorflow.ensure_shape"
        )
    sizes, order = tf.shape(x), iter(unknown)
    return tf.reshape(x, [sizes[next(order)] if length is None else length for length in shape])


def broadcast_to(x: Array, shape: Shape) -> Array:
    """Broadcast, but not along lengths that are not known: there every operation broadcasts by itself."""
    if None not in shape:
        return tf.broadcast_to(x, shape)
    x = tf.reshape(x, tf.concat(([1] * (len(shape) - x.ndim), tf.shape(x)), 0)) if x.ndim < len(shape) else x
    sizes = tf.shape(x)
    return tf.broadcast_to(x, [sizes[axis] if length is None else length for axis, length in enumerate(shape)])


def broadcast_arrays(a: Array, b: Array) -> tuple[Array, Array]:
    """Broadcast two arrays against each other."""
    shape = tf.broadcast_static_shape(a.shape, b.shape)
    if None in tuple(shape):
        shape = tf.broadcast_dynamic_shape(tf.shape(a), tf.shape(b))
    return tf.broadcast_to(a, shape), tf.broadcast_to(b, shape)


# -- tensors that hold data -------------------------------------------------------------------------------------------


def asarray(a: np.ndarray[Any, Any]) -> Array:
    """Copy NumPy data to a tensor."""
    return tf.convert_to_tensor(a)


def readable(x: Array) -> Any:
    """True if a tensor holds data, on the CPU."""
    return tf.executing_eagerly() and "CPU:" in x.device


def recorded(*tensors: Array) -> Any:
    """True if a tape watches one of these tensors."""
    return record.should_record_backprop(tensors)


def recording() -> Any:
    """True if any tape or forward accumulator is active."""
    return record.could_possibly_record()


def view_memory(x: Array) -> np.ndarray[Any, Any]:
    """Return the memory of a tensor, read-only; of bfloat16, which buffers do not know, its bits."""
    return np.asarray(memoryview(tf.bitcast(x, tf.uint16) if x.dtype is tf.bfloat16 else x))


ALIGNMENT = 64  # bytes: on other memory TensorFlow ends the process
_WORTH_SHARING = 16384  # bytes: below, copying is as fast


def shared(a: np.ndarray[Any, Any], dtype: str) -> Array:
    """Return NumPy memory as a tensor, without a copy where it is aligned."""
    a = np.asarray(a)
    if a.nbytes >= _WORTH_SHARING and a.ctypes.data % ALIGNMENT == 0 and a.flags.c_contiguous and a.flags.writeable:
        x = tf.experimental.dlpack.from_dlpack(a.__dlpack__())
    else:
        x = tf.convert_to_tensor(a)
    return tf.bitcast(x, tf.bfloat16) if dtype == "bfloat16" and x.dtype is not tf.bfloat16 else x
