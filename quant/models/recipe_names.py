"""The names of the recipes in `RECIPES`; imports no quantizer, so that a parser may use it."""

RECIPE_NAMES = (
    "int8",
    "int6",
    "int4",
    "int4-group",
    "gptq-int8",
    "gptq-int6",
    "gptq-int6+int8-embed",
    "gptq-int4",
    "gptq-int4-group",
    "lloyd-4bit",
    "nf4",
    "residual",
    "pq",
)
