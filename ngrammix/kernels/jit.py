"""The decorator of every kernel, and instructions that Numba lacks: prefetch, lane comparison.

Numba loads a kernel from its disk cache if the kernel's own file is unchanged, but the cached code
also contains constants and kernels of other files. So the name under which a kernel is cached holds
a digest of every file of this folder.
"""

from functools import partial
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic


def _digest():
    """Hash of all sources in this folder: 8 hex digits. Works inside a zip file too."""
    sources = sorted(files(__package__).iterdir(), key=lambda file: file.name)
    contents = [source.read_bytes() for source in sources if source.name.endswith(".py")]
    return blake2b(b"\0".join(contents), digest_size=4).hexdigest()


DIGEST = _digest()


def jit(function=None, *, fastmath=False, inline="never", error_model="python"):
    """Return `function` compiled without the GIL, and cached on disk where that is possible.

    inline="always" inlines the function into its callers: worth it where many arrays are passed,
    because each takes seven words. error_model="numpy" leaves divisions unchecked, so that loops
    with a division can be vectorized.

    Numba raises an error where no cache folder is writable (read-only installs without a home).
    There, and in zip files, each process compiles its kernels again.
    """
    options = {"fastmath": fastmath, "inline": inline, "error_model": error_model}
    if function is None:
        return partial(jit, **options)
    function.__qualname__ += f"_{DIGEST}"
    try:
        is_file = Path(function.__code__.co_filename).is_file()
        return njit(cache=is_file, nogil=True, **options)(function)
    except (RuntimeError, OSError):
        return njit(nogil=True, **options)(function)


LANES = 16  # words of a line: 64 bytes, one cache line and one vector register

if getattr(config, "DISABLE_JIT", False):

    def prefetch(array, row):
        """Do nothing: plain Python has no prefetch."""

    def lanes_equal(words, first, shift, value):
        """Return a mask whose bit j says whether ``words[first + j] >> shift == value``."""
        equal = words[int(first) : int(first) + LANES] >> np.uint32(shift) == value
        return np.uint64(np.dot(equal, 1 << np.arange(LANES)))

    def lowest(bits):
        """Return the index of the lowest set bit of `bits`, which must not be 0."""
        return np.uint64((int(bits) & -int(bits)).bit_length() - 1)

    def bit_length(number):
        """Return the number of bits of `number` >= 0 without leading zeros."""
        return int(number).bit_length()

else:

    @intrinsic
    def prefetch(typing_context, array, row):
        """Load ``array[row]`` of a C-contiguous array into the caches, without waiting."""

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
                ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32]),
            )
            # read (0), keep in every cache level (3), data (1)
            builder.call(hint, [address, int32(0), int32(3), int32(1)])
            return context.get_dummy_value()

        return types.void(array, row), codegen

    @intrinsic
    def lanes_equal(typing_context, words, first, shift, value):
        """Mask whose bit j says whether ``words[first + j] >> shift == value``, in one comparison.

        words (N,) uint32, aligned to a cache line; first: a multiple of LANES; shift < 32.
        """

        def codegen(context, builder, signature, args):
            int32, vector = ir.IntType(32), ir.VectorType(ir.IntType(32), LANES)
            undefined = ir.Constant(vector, ir.Undefined)

            def splat(number, number_type):
                word = context.cast(builder, number, number_type, types.uint32)
                first_lane = builder.insert_element(undefined, word, int32(0))
                return builder.shuffle_vector(
                    first_lane, undefined, ir.Constant(vector, [0] * LANES)
                )

            view = context.make_array(signature.args[0])(context, builder, args[0])
            index = context.cast(builder, args[1], signature.args[1], types.uint64)
            address = builder.gep(view.data, [index])
            line = builder.load(builder.bitcast(address, vector.as_pointer()))
            line.align = 4 * LANES
            shifted = builder.lshr(line, splat(args[2], signature.args[2]))
            equal = builder.icmp_unsigned("==", shifted, splat(args[3], signature.args[3]))
            mask = builder.bitcast(equal, ir.IntType(LANES))
            return builder.zext(mask, ir.IntType(64))

        return types.uint64(words, first, shift, value), codegen

    @intrinsic
    def lowest(typing_context, bits):
        """Return the index of the lowest set bit of `bits`, which must not be 0."""

        def codegen(context, builder, signature, args):
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

        return types.uint64(types.uint64), codegen

    @intrinsic
    def bit_length(typing_context, number):
        """Return the number of bits of `number` >= 0 without leading zeros."""

        def codegen(context, builder, signature, args):
            zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))
            return builder.sub(ir.Constant(ir.IntType(64), 64), zeros)

        return types.int64(types.int64), codegen
