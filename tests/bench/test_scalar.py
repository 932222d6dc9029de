"""``ngrammix bench scalar``: the peers do the work that they are timed for."""

import numpy as np
import pytest

from eval.bench import scalar as bench


@pytest.mark.parametrize("config", bench.FORMATS.values(), ids=bench.FORMATS)
def test_all_ways_give_the_same(rng, config):
    weight = rng.standard_normal((6, 2 * bench.GROUP)).astype(np.float32)
    q = config.encode(weight)
    for make, expected in ((bench.encoders, q.codes), (bench.decoders, q.matrix())):
        for name, way in make(weight, config).items():
            got = way()
            got = got.codes if name == "ours, fit too" else np.asarray(got)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got.reshape(weight.shape), expected)
