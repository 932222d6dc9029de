"""One decorator for every kernel: compiled, cached on disk, without the GIL; and the prefetch."""

from functools import partial

from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic


def jit(function=None, *, fastmath=False):
    """Return `function` compiled; cached on disk where any cache folder can be written.

    Numba refuses to decorate where no folder is writable (zip imports, read-only installs without a
    home); there the kernel is compiled anew in each process.
    """
    if function is None:
        return partial(jit, fastmath=fastmath)
    try:
        return njit(cache=True, nogil=True, fastmath=fastmath)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return njit(nogil=True, fastmath=fastmath)(function)


if getattr(config, "DISABLE_JIT", False):

    def prefetch(array, row):
        """Do nothing: plain Python has no cache lines to fetch."""

else:

    @intrinsic
    def prefetch(typing_context, array, row):
        """Ask the memory system for ``array[row]``, C-contiguous, and do not wait for it."""

        def codegen(context, builder, signature, args):
            array_type, row_type = signature.args
            view = context.make_array(array_type)(context, builder, args[0])
            row = context.cast(builder, args[1], row_type, types.intp)
            row_bytes = cgutils.unpack_tuple(builder, view.strides)[0]
            byte_pointer = cgutils.voidptr_t
            address = builder.gep(
                builder.bitcast(view.data, byte_pointer), [builder.mul(row, row_bytes)]
            )
            int32 = cgutils.int32_t
            hint = builder.module.declare_intrinsic(
                "llvm.prefetch",
                [byte_pointer],
                cgutils.ir.FunctionType(cgutils.ir.VoidType(), [byte_pointer, int32, int32, int32]),
            )
            # read (0), keep in every cache level (3), data (1)
            builder.call(hint, [address, int32(0), int32(3), int32(1)])
            return context.get_dummy_value()

        return types.void(array, row), codegen
