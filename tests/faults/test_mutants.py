import json

from tests.faults.mutants import VALUES, byte_mutants, json_mutants


def test_mutants_repeat_and_differ():
    content = bytes(range(256))
    assert list(byte_mutants(content, 1, 50)) == list(byte_mutants(content, 1, 50))
    assert len(set(byte_mutants(content, 1, 50))) > 45
    assert list(byte_mutants(b"", 3, 20))


def test_json_mutants_leave_the_value_alone():
    value = {"a": [1, 2, {"b": "text"}], "c": None}
    first = [json.dumps(v) for v in json_mutants(value, 1, 50)]
    assert value == {"a": [1, 2, {"b": "text"}], "c": None}
    assert first == [json.dumps(v) for v in json_mutants(value, 1, 50)]
    assert len(set(first)) > 40


def test_mutants_do_not_change_each_other():
    before = repr(VALUES)
    assert len(list(json_mutants({"a": [1, {"b": 2}]}, 5, 2000))) == 2000
    assert repr(VALUES) == before
