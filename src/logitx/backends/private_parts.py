"""What backends use of Numba, JAX and PyTorch beyond the documented interfaces, and with which versions it worked.

A release may take a part away. The backend is then given up (`logitx._unfit`), and others run; for PyTorch see also
`logitx._arrays.torch_state`. tests/test_private_parts.py fails where an installed release lacks a part, and where
a source file uses one that is not listed. A part is "module:attribute"; an attribute may be one of instances.
"""

from __future__ import annotations

from typing import NamedTuple


class PrivateParts(NamedTuple):
    """The private parts that one backend uses."""

    libraries: tuple[str, ...]  # the distributions they belong to
    seen: str  # the versions that the tests passed with
    parts: tuple[str, ...]


_NUMBA = """
    numba._dynfunc:make_function
    numba.core.ccallback:CFunc numba.core.ccallback:CFunc._cache numba.core.ccallback:CFunc.address
    numba.core.ccallback:CFunc.compile
    numba.core.cgutils:alloca_once numba.core.cgutils:alloca_once_value numba.core.cgutils:create_struct_proxy
    numba.core.cgutils:gep_inbounds numba.core.cgutils:get_or_insert_function numba.core.cgutils:normalize_ir_text
    numba.core.cgutils:unpack_tuple
    numba.core.codegen:CPUCodeLibrary numba.core.codegen:CPUCodeLibrary._codegen
    numba.core.codegen:CPUCodeLibrary._final_module numba.core.codegen:CPUCodeLibrary._finalize_dynamic_globals
    numba.core.codegen:CPUCodeLibrary._finalized numba.core.codegen:CPUCodeLibrary._get_module_for_linking
    numba.core.codegen:CPUCodeLibrary._linking_libraries numba.core.codegen:CPUCodeLibrary._optimize_final_module
    numba.core.codegen:CPUCodeLibrary._optimize_functions numba.core.codegen:CPUCodeLibrary.add_ir_module
    numba.core.codegen:CPUCodeLibrary.add_linking_library numba.core.codegen:CPUCodeLibrary.create_ir_module
    numba.core.codegen:CPUCodeLibrary.enable_object_caching numba.core.codegen:CPUCodeLibrary.finalize
    numba.core.codegen:CPUCodeLibrary.has_dynamic_globals
    numba.core.codegen:JITCPUCodegen._data_layout numba.core.codegen:JITCPUCodegen._pass_builder
    numba.core.codegen:JITCPUCodegen.magic_tuple
    numba.core.codegen:JITCodeLibrary numba.core.codegen:JITCodeLibrary.get_pointer_to_function
    numba.core.compiler:CompileResult numba.core.compiler:CompileResult._rebuild
    numba.core.compiler:CompileResult._reduce numba.core.compiler:CompilerBase
    numba.core.compiler:CompilerBase.define_pipelines
    numba.core.compiler:DefaultPassBuilder.define_nopython_pipeline
    numba.core.compiler_lock:global_compiler_lock
    numba.core.compiler_machinery:PassManager.passes numba.core.compiler_machinery:register_pass
    numba.core.config:DISABLE_JIT numba.core.config:NUMBA_NUM_THREADS
    numba.core.dispatcher:Dispatcher._cache numba.core.dispatcher:Dispatcher.get_compile_result
    numba.core.dispatcher:Dispatcher.overloads
    numba.core.registry:cpu_target.target_context
    numba.core.serialize:dumps
    numba.core.typed_passes:AnnotateTypes numba.core.typed_passes:IRLegalization
    numba.core.typed_passes:InlineOverloads numba.core.typed_passes:NativeLowering
    numba.core.typed_passes:NopythonRewrites
    numba.core.types:BaseTuple.from_types numba.core.types:Literal numba.core.types:NamedUniTuple
    numba.core.untyped_passes:GenericRewrites numba.core.untyped_passes:InlineClosureLikes
    numba.core.untyped_passes:InlineInlinables numba.core.untyped_passes:LiteralUnroll
    numba.core.untyped_passes:MakeFunctionToJitFunction numba.core.untyped_passes:RewriteDynamicRaises
    numba.core.untyped_passes:WithLifting
    numba.extending:NativeValue numba.extending:intrinsic numba.extending:lower_builtin
    numba.extending:make_attribute_wrapper numba.extending:models numba.extending:register_model
    numba.extending:type_callable numba.extending:unbox
    numba.misc.appdirs:AppDirs
    numba.np.arraymath:ensure_blas numba.np.linalg:ensure_blas
    llvmlite.binding:Linkage.external llvmlite.binding:parse_assembly
    llvmlite.ir:IRBuilder.atomic_rmw llvmlite.ir:IRBuilder.cmpxchg llvmlite.ir:IRBuilder.load_atomic
    llvmlite.ir:IRBuilder.store_atomic llvmlite.ir:Module.get_unique_name
"""
_JAX = """
    jax._src.dispatch:prim_requires_devices_during_lowering
    jax.extend.core:Primitive
    jax.interpreters.batching:primitive_batchers
    jax.interpreters.mlir:lower_fun jax.interpreters.mlir:register_lowering
"""
_XLA = "jax.ffi:ffi_call jax.ffi:pycapsule jax.ffi:register_ffi_target"  # and the C header that `xla.call_frame` names
_TORCH = """
    torch._C:_DisableFuncTorch torch._C:_are_functorch_transforms_active torch._C:_functorch.get_unwrapped
    torch._C:_functorch.is_functorch_wrapped_tensor torch._C:_functorch.is_gradtrackingtensor
    torch._C:_functorch.is_legacy_batchedtensor torch._C:_get_tracing_state torch._C:_len_torch_dispatch_stack
    torch._C:_get_dispatch_mode torch._C:_TorchDispatchModeKey.FAKE
    torch._ops:_OpNamespace
    torch._subclasses:FakeTensor torch._subclasses.functional_tensor:FunctionalTensor
    torch.autograd.forward_ad:_current_level torch.autograd.forward_ad:_set_fwd_grad_enabled
"""

PRIVATE_PARTS = {
    "numba": PrivateParts(("numba", "llvmlite"), "numba 0.62 to 0.68", tuple(_NUMBA.split())),
    "jax": PrivateParts(("jax", "jaxlib"), "jax 0.6 to 0.10", tuple(_JAX.split())),
    "xla": PrivateParts(("jax", "jaxlib"), "jax 0.6 to 0.10", tuple(_XLA.split())),
    "torch": PrivateParts(("torch",), "torch 2.13", tuple(_TORCH.split())),
}
