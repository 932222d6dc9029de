"""Round a matrix to float16 where a grid would take more bytes, as with two columns a scale."""

from quant.models.plan import Job
from quant.models.recipe import EVERYTHING, HALF, Recipe
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.scalar import ScalarConfig

HALF_BITS = 16
LARGEST = 65504.0  # of float16
NOTE = "float16: {} would take {:.3g} bits a weight, for it has few columns"


def half_if_smaller(job: Job, recipe: Recipe) -> Job:
    """The job with float16 in the place of a grid that takes more; a rule with a name stands."""
    grid = job.config.inner if isinstance(job.config, GptqConfig) else job.config
    rule = recipe.rule_for(job.names, job.role)
    if not isinstance(grid, ScalarConfig) or rule is None or rule.names != EVERYTHING:
        return job
    bits = grid.bits_per_weight(job.axes.matrix_shape(tuple(job.weight.shape)))
    if bits <= HALF_BITS or not bool((job.weight.detach().abs() <= LARGEST).all()):
        return job
    note = NOTE.format(f"int{grid.bits}", bits)
    return job._replace(config=HALF, input_group=(), is_uncalibrated=False, notes=(note,))
