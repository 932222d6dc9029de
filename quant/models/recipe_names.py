"""The names of the quantizers and of the recipes.

It imports no quantizer, so that a parser may use it.
"""

QUANTIZER_NAMES = (
    "int8",
    "int6",
    "int4",
    "int4-group",
    "gptq-int8",
    "gptq-int6",
    "gptq-int4",
    "gptq-int4-group",
    "lloyd-4bit",
    "nf4",
    "residual",
    "pq",
)
RECIPE_NAMES = (*QUANTIZER_NAMES, "gptq-int6+int8-embed")
