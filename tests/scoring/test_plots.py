"""Pictures of a score: the curve of a `tokens.csv`, the figure's end values, refusals."""

import csv
import sys

import numpy as np
import pytest

from eval.cli import main
from eval.plots import plot_bits_saved, read_curve

HEADER = ["position", "document", "byte", "bytes", "token", "text", "bits_model", "bits"]
AWKWARD = ['a"b', ",", "\r\n", "\n", "é", ""]


def write_tokens(folder, costs):
    """`tokens.csv` of rows (bytes, bits_model, bits), with text that a CSV file must quote."""
    folder.mkdir(exist_ok=True)
    with (folder / "tokens.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for i, cost in enumerate(costs):
            n_bytes, *bits = cost
            rows.writerow([i, 0, i, n_bytes, 7, AWKWARD[i % len(AWKWARD)], *bits])
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_tokens(tmp_path / "prose", [(2, 8.5, 8.0), (0, 1.0, 2.0), (4, 2.5, 0.25)])


def test_a_short_file_gives_every_sum(folder):
    curve = read_curve(folder / "tokens.csv")
    np.testing.assert_array_equal(curve, [[0, 0, 0], [2, 8.5, 8], [2, 9.5, 10], [6, 12, 10.25]])


@pytest.mark.parametrize("n_tokens", [1, 19, 20, 21, 40, 41, 1000, 70_001])
def test_a_long_file_gives_evenly_spaced_sums_and_the_total(tmp_path, rng, n_tokens):
    costs = np.stack([rng.integers(1, 9, n_tokens), *rng.integers(0, 64, (2, n_tokens)) / 4], 1)
    write_tokens(tmp_path, costs.tolist())
    curve = read_curve(tmp_path / "tokens.csv", max_points=10)
    assert len(curve) <= 22
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(costs, axis=0)])
    rows = np.searchsorted(sums[:, 0], curve[:, 0])
    np.testing.assert_array_equal(curve, sums[rows])
    assert (rows[0], rows[-1]) == (0, n_tokens)
    assert len(set(np.diff(rows[:-1]))) <= 1
    assert len(curve) > min(10, n_tokens)


def lines_of(monkeypatch, *arguments):
    """(label, x, y) of each line that the command draws."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    assert main(["plot", *map(str, arguments)]) == 0
    (axes,) = figures[0].axes
    return [(line.get_label(), *line.get_data()) for line in axes.get_lines()]


def test_bits_saved_end_at_the_difference_of_the_totals(folder, tmp_path, monkeypatch):
    other = write_tokens(tmp_path / "other", [(1, 3, 4)] * 5)
    (label, x, y), (second, _, lost) = lines_of(
        monkeypatch, folder, other, "--out", tmp_path / "saved.svg"
    )
    assert label == "prose: 2.000 → 1.708 BPB"
    np.testing.assert_array_equal(x, [0, 2, 2, 6])
    np.testing.assert_array_equal(y, [0, 0.5, -0.5, 1.75])
    assert second == "other: 3.000 → 4.000 BPB"
    assert lost[-1] == -5
    text = (tmp_path / "saved.svg").read_text(encoding="utf-8")
    assert "prose: 2.000 → 1.708 BPB" in text
    plot_bits_saved([folder, other], tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == text


def test_bits_per_byte_end_at_those_of_the_whole_text(folder, tmp_path, monkeypatch):
    model, mixture = lines_of(
        monkeypatch, folder, "--kind", "bpb", "--labels", "some prose", "--out", tmp_path / "b.png"
    )
    assert model[0].startswith("_")  # matplotlib leaves such a line out of the legend
    assert mixture[0] == "some prose: 2.000 → 1.708 BPB"
    np.testing.assert_array_equal(model[2], [4.25, 4.75, 2])
    assert mixture[2][-1] == 10.25 / 6
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"folders": []},
         "there must be a folder to draw, got none; name what score --out DIR --tokens wrote"),
        ({"kind": "loss"}, "kind must be one of saved, bpb, got 'loss'; choose one"),
        ({"out": "a.gif"}, "out must end in .svg, .png, .pdf, got a.gif; rename the picture"),
        ({"labels": ["a", "b"]},
         "labels must be as many as the folders, got 2 for 1; name each text"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(folder, change, text):
    options = {"folders": [folder], "out": "a.svg"} | change
    with pytest.raises(ValueError) as caught:
        plot_bits_saved(**options)
    assert str(caught.value) == text


def test_a_folder_without_costs_is_refused(tmp_path, capsys):
    def refusal():
        assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.svg")]) == 2
        assert not (tmp_path / "a.svg").exists()
        return capsys.readouterr().err

    path = tmp_path / "tokens.csv"
    assert refusal() == (
        f"ngrammix: error: a picture is drawn from tokens.csv, got none in {tmp_path}; name a "
        "folder that ngrammix score --out DIR --tokens wrote\n"
    )
    path.write_text("bytes,bits\r\n1,2\r\n")
    assert refusal() == (
        f"ngrammix: error: tokens.csv must have the columns bytes, bits_model, bits, got {path}: "
        "Column 'bits_model' in include_columns does not exist in CSV file; score with a model "
        "and a mixer\n"
    )
    write_tokens(tmp_path, [(0, 1, 1)])
    assert refusal() == (
        f"ngrammix: error: there must be a byte of text to draw along, got 0 in {path}; score "
        "data whose bytes are known\n"
    )


def test_without_matplotlib_the_extra_is_named(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["plot", str(folder), "--out", str(tmp_path / "a.svg")]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: a picture needs the library matplotlib, which is missing; "
        "pip install 'ngrammix[plot]'\n"
    )
