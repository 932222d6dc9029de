"""Recipes by name."""

from quant.base.config import Config
from quant.models.named_quantizers import INT6, QUANTIZERS, SEQUENTIAL, sequential_gptq
from quant.models.recipe import Recipe, Rule
from quant.quantizers.scalar import ScalarConfig


def make_recipe(
    name: str, use: Config, embedding: Config | None = None, *, sequential: bool = False
) -> Recipe:
    """Recipe of one configuration for matrices, and optionally another for embeddings and heads."""
    others = () if embedding is None else (
        Rule(role="embedding", use=embedding), Rule(role="head", use=embedding)
    )  # fmt: skip
    return Recipe(name=name, rules=(*others, Rule(use=use)), sequential=sequential)


WIDE = sequential_gptq(ScalarConfig(bits=8, clip="sd:20"))  # for embeddings and heads
RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(
            make_recipe(name, use, sequential=name in SEQUENTIAL)
            for name, use in QUANTIZERS.items()
        ),
        make_recipe("gptq-int6+int8-embed", sequential_gptq(INT6), WIDE, sequential=True),
    )
}
