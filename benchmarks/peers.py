"""Each competitor's way to do the operations: convert NumPy inputs to its arrays, and return the call to time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cells import Cell, Inputs

Call = Callable[[], Any]


def logitx_numpy(cell: Cell, inputs: Inputs) -> Call:
    """NumPy arrays in, NumPy arrays out."""
    import logitx

    function = getattr(logitx, cell.op)
    if inputs.weight is not None:
        return lambda: function(inputs.logits, inputs.weight, inputs.labels)
    if cell.op.startswith("cross_entropy"):
        return lambda: function(inputs.logits, inputs.labels, inputs.axis)
    if cell.into:
        out = np.empty_like(inputs.logits)
        return lambda: function(inputs.logits, inputs.axis, out=out)
    return lambda: function(inputs.logits, inputs.axis)


def scipy(cell: Cell, inputs: Inputs) -> Call:
    """scipy.special, on NumPy arrays."""
    import scipy.special

    function = getattr(scipy.special, cell.op)
    return lambda: function(inputs.logits, axis=inputs.axis)


def _tensor(array: np.ndarray) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _classes_second(logits: Any, axis: int) -> Any:
    """Return logits with the classes on axis 1, as PyTorch wants them; a needless view would cost 2 us."""
    return logits if axis % logits.ndim == 1 else logits.movedim(axis, 1)


def torch(cell: Cell, inputs: Inputs) -> Call:
    """PyTorch, eager, on all cores; `out=` where it has one."""
    import torch

    logits, labels, axis = _tensor(inputs.logits), torch.from_numpy(inputs.labels), inputs.axis
    if inputs.weight is not None:
        functional = torch.nn.functional
        return _torch_layer(cell, inputs, lambda h, w: functional.cross_entropy(functional.linear(h, w), labels))
    if cell.op == "softmax" and cell.into:
        out = torch.empty_like(logits)
        return lambda: torch.softmax(logits, axis, out=out)
    if not cell.op.startswith("cross_entropy"):
        function = getattr(torch, cell.op)
        return lambda: function(logits, axis)
    loss = torch.nn.functional.cross_entropy
    if cell.op == "cross_entropy":
        moved = _classes_second(logits, axis)
        return lambda: loss(moved, labels)

    def value_and_grad() -> tuple[Any, Any]:
        leaf = logits.detach().requires_grad_()
        value = loss(_classes_second(leaf, axis), labels)
        value.backward()
        return value.detach(), leaf.grad

    return value_and_grad


def _torch_layer(cell: Cell, inputs: Inputs, loss: Call) -> Call:
    hidden, weight = _tensor(inputs.logits), _tensor(inputs.weight)
    if cell.op == "linear_cross_entropy":
        return lambda: loss(hidden, weight)

    def value_and_grad() -> tuple[Any, ...]:
        leaves = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
        value = loss(*leaves)
        value.backward()
        return value.detach(), leaves[0].grad, leaves[1].grad

    return value_and_grad


def torch_chunked(cell: Cell, inputs: Inputs) -> Call:
    """PyTorch's own cross-entropy of a linear layer, in chunks as it chooses them."""
    import torch

    labels, options = torch.from_numpy(inputs.labels), torch.nn.LinearCrossEntropyOptions()
    function = torch.nn.functional.linear_cross_entropy
    return _torch_layer(cell, inputs, lambda h, w: function(h, w, labels, options=options))


def _on_tensors(cell: Cell, inputs: Inputs, function: Callable[..., Any]) -> Call:
    """Call `function` on tensors; in cells with a backward pass, also go backward from a full gradient."""
    import torch

    logits, labels = torch.from_numpy(inputs.logits), torch.from_numpy(inputs.labels)
    given = (labels,) if cell.op.startswith("cross_entropy") else ()
    if not cell.op.endswith("backward"):
        return lambda: function(logits, *given)
    dy = torch.ones(()) if given else logits

    def forward_and_backward() -> tuple[Any, Any]:
        leaf = logits.detach().requires_grad_()
        value = function(leaf, *given)
        value.backward(dy)
        return value.detach(), leaf.grad

    return forward_and_backward


def logitx_torch(cell: Cell, inputs: Inputs) -> Call:
    """PyTorch tensors in, PyTorch tensors out."""
    import logitx

    function, axis = getattr(logitx, cell.op.removesuffix("_and_backward")), inputs.axis
    return _on_tensors(cell, inputs, lambda x, *labels: function(x, *labels, axis))


def _theirs(cell: Cell, axis: int) -> Callable[..., Any]:
    import torch

    op = cell.op.removesuffix("_and_backward")
    if op == "cross_entropy":
        return lambda x, labels: torch.nn.functional.cross_entropy(_classes_second(x, axis), labels)
    function = torch.logsumexp if op == "logsumexp" else getattr(torch.nn.functional, op)
    return lambda x: function(x, axis)


def torch_eager(cell: Cell, inputs: Inputs) -> Call:
    """torch.nn.functional."""
    return _on_tensors(cell, inputs, _theirs(cell, inputs.axis))


def torch_compiled(cell: Cell, inputs: Inputs) -> Call:
    """torch.nn.functional, compiled for the shape."""
    import torch

    torch.compiler.reset()
    return _on_tensors(cell, inputs, torch.compile(_theirs(cell, inputs.axis), dynamic=False))


def jax(cell: Cell, inputs: Inputs) -> Call:
    """jax.nn and optax, jitted."""
    import jax
    import optax

    logits, labels, axis = jax.numpy.asarray(inputs.logits), jax.numpy.asarray(inputs.labels), inputs.axis

    def loss(x: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(x, labels, axis=axis).mean()

    if inputs.weight is not None:
        weight = jax.numpy.asarray(inputs.weight)

        def of_layer(h: Any, w: Any, labels: Any) -> Any:
            return loss(h @ w.T, labels)

        layer = jax.jit(of_layer if cell.op == "linear_cross_entropy" else jax.value_and_grad(of_layer, (0, 1)))
        return lambda: jax.block_until_ready(layer(logits, weight, labels))
    if cell.op.startswith("cross_entropy"):
        function = jax.jit(loss if cell.op == "cross_entropy" else jax.value_and_grad(loss))
        return lambda: jax.block_until_ready(function(logits, labels))
    normal = getattr(jax.nn, cell.op)
    function = jax.jit(lambda x: normal(x, axis))
    return lambda: jax.block_until_ready(function(logits))


def logitx_jax(cell: Cell, inputs: Inputs) -> Call:
    """JAX arrays in, JAX arrays out, jitted."""
    import jax

    import logitx

    logits, labels, axis = jax.numpy.asarray(inputs.logits), jax.numpy.asarray(inputs.labels), inputs.axis
    function = getattr(logitx, cell.op)
    if cell.op.startswith("cross_entropy"):
        loss = jax.jit(lambda x, labels: function(x, labels, axis))
        return lambda: jax.block_until_ready(loss(logits, labels))
    normal = jax.jit(lambda x: function(x, axis))
    return lambda: jax.block_until_ready(normal(logits))


def onnxruntime(cell: Cell, inputs: Inputs) -> Call:
    """ONNX Runtime, on all cores; its arena keeps the memory of results."""
    import onnx
    import onnxruntime

    kind = onnx.helper.np_dtype_to_tensor_dtype(inputs.logits.dtype)
    node = {
        "softmax": lambda: onnx.helper.make_node("Softmax", ["x"], ["y"], axis=inputs.axis),
        "log_softmax": lambda: onnx.helper.make_node("LogSoftmax", ["x"], ["y"], axis=inputs.axis),
        "logsumexp": lambda: onnx.helper.make_node("ReduceLogSumExp", ["x", "axes"], ["y"], keepdims=0),
    }[cell.op]()
    axes = onnx.numpy_helper.from_array(np.array([inputs.axis], dtype=np.int64), "axes")
    graph = onnx.helper.make_graph(
        [node],
        cell.op,
        [onnx.helper.make_tensor_value_info("x", kind, inputs.logits.shape)],
        [onnx.helper.make_tensor_value_info("y", kind, None)],
        [axes] if cell.op == "logsumexp" else [],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    value = onnxruntime.OrtValue.ortvalue_from_numpy(inputs.logits)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", value)
    binding.bind_output("y")

    def run() -> Any:
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    return run
