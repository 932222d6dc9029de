"""Config: frozen, printed in full, the same again out of JSON; and every refusal."""

import json
from dataclasses import FrozenInstanceError

import pytest

from quant.base.config import Config, check_choice, check_int, kind_names
from quant.quantizers.scalar import ScalarConfig


def refusal(call, *arguments):
    with pytest.raises(ValueError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_config_is_frozen_and_prints_itself():
    config = ScalarConfig(bits=4)
    with pytest.raises(FrozenInstanceError):
        config.bits = 5
    assert eval(repr(config)) == config
    assert repr(config) == (
        "ScalarConfig(bits=4, symmetric=True, per='row', group_size=None, clip='absmax', "
        "scale_dtype='float32')"
    )
    with pytest.raises(TypeError):
        ScalarConfig(4)


def test_a_config_survives_json():
    config = ScalarConfig(bits=3, symmetric=False, per="group", group_size=7, clip="sd:9.5")
    values = json.loads(json.dumps(config.to_json()))
    assert values["kind"] == "scalar"
    assert Config.from_json(values) == config


def test_json_of_no_config_is_refused():
    kinds = kind_names()
    assert refusal(Config.from_json, {"kind": "magic"}) == (
        f"kind must be one of {kinds}, got 'magic'; read it with the ngrammix that wrote it"
    )
    assert refusal(Config.from_json, {"bits": 6}).startswith(
        f"kind must be one of {kinds}, got None"
    )
    assert refusal(Config.from_json, {"kind": "scalar", "bits": 6}) == (
        "a scalar configuration has bits, clip, group_size, per, scale_dtype, symmetric, got bits; "
        "read it with the ngrammix that wrote it"
    )
    wrong = ScalarConfig().to_json() | {"bits": 99}
    assert refusal(Config.from_json, wrong) == (
        "bits must be an integer in 2..8, got 99; correct it"
    )


def test_check_choice_and_check_int_name_what_they_got():
    assert refusal(check_choice, "x", "per", ("row", "tensor")) == (
        "per must be one of row, tensor, got 'x'; correct it"
    )
    for value in (True, 2.0, "2", None, 1, 9):
        assert refusal(check_int, value, "bits", 2, 8) == (
            f"bits must be an integer in 2..8, got {value!r}; correct it"
        )
    check_int(2, "bits", 2, 8)
    check_int(8, "bits", 2, 8)


def test_the_base_decodes_nothing():
    for call in (Config.decode, Config.check):
        with pytest.raises(NotImplementedError):
            call(ScalarConfig(), None, {}, (1, 1))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"bits": 1}, "bits must be an integer in 2..8, got 1; correct it"),
        ({"bits": 9}, "bits must be an integer in 2..8, got 9; correct it"),
        ({"symmetric": 1}, "symmetric must be True or False, got 1; correct it"),
        ({"per": "cell"}, "per must be one of tensor, row, column, group, got 'cell'; correct it"),
        (
            {"per": "group"},
            "group_size must be an integer in 1..2147483647, got None; correct it",
        ),
        (
            {"group_size": 64},
            "group_size goes with per='group', got 64 with per='row'; leave it out",
        ),
        (
            {"scale_dtype": "bfloat16"},
            "scale_dtype must be one of float32, float16, got 'bfloat16'; correct it",
        ),
        *(
            (
                {"clip": clip},
                "clip must be absmax, mse, hessian or sd:K with a number K > 0, got "
                f"{clip!r}; correct it",
            )
            for clip in (
                "",
                "max",
                "sd",
                "sd:",
                "sd:x",
                "sd:0",
                "sd:-1",
                "sd:inf",
                "sd:nan",
                "mse:2",
                3,
            )
        ),
    ],
)
def test_a_scalar_config_refuses(fields, text):
    assert refusal(lambda: ScalarConfig(**fields)) == text
