"""Pictures of a score: bits saved, or bits per byte, along the text."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pyarrow import ArrowInvalid, csv

from ngrammix.atomic import check_place, replaced, target_of
from ngrammix.escaping import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = NDArray[np.float64]

KINDS = ("saved", "bpb")
COLUMNS = ("bytes", "bits_model", "bits")
SUFFIXES = (".svg", ".png", ".pdf")
MAX_POINTS = 500  # of a line: more are not seen, and make an SVG file large
# Distinct for colour-blind readers (Okabe and Ito 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: Any = {  # rcParams
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#666666",
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e5e5e5", "grid.linewidth": 0.8,
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.labelcolor": "#333333",
    "xtick.color": "#666666", "ytick.color": "#666666", "font.size": 10,
    "lines.linewidth": 2, "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: a smaller file
    "svg.hashsalt": "ngrammix",  # the same data give the same file
}  # fmt: skip


def plot_bits_saved(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    labels: Sequence[str] | None = None,
    kind: Literal["saved", "bpb"] = "saved",
) -> None:
    """Draw what the cache saves along the text, one line for each scored text.

    Parameters
    ----------
    folders : sequence of paths
        Folders that ``ngrammix score --out DIR --tokens`` wrote: `tokens.csv` of each is read, in
        blocks, so that memory does not grow with its size.
    out : path
        The picture: ``.svg``, ``.png`` or ``.pdf``.
    labels : sequence of str, optional
        Names of the texts in the legend; the names of the folders by default.
    kind : {"saved", "bpb"}
        ``"saved"``: bits of the model less bits of the mixture, cumulated over the bytes of text.
        ``"bpb"``: bits per byte of the text so far, of the mixture (solid) and of the model alone
        (dashed); the first hundredth of the text is left out.

    Raises
    ------
    ValueError
        If a folder has no `tokens.csv` with bytes and a model's costs, if `labels`, `kind` or the
        suffix of `out` is wrong, if it cannot be written, or if matplotlib (extra ``plot``) is
        missing.
    """
    out = Path(out)
    if not folders:
        raise ValueError(
            "there must be a folder to draw, got none; name what score --out DIR --tokens wrote"
        )
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}; choose one")
    if out.suffix not in SUFFIXES:
        raise ValueError(
            f"out must end in {', '.join(SUFFIXES)}, got {out.name}; rename the picture"
        )
    if labels is None:
        labels = [Path(folder).resolve().name for folder in folders]
    if len(labels) != len(folders):
        raise ValueError(
            f"labels must be as many as the folders, got {len(labels)} for {len(folders)}; "
            "name each text"
        )
    target = target_of(out)
    check_place(target, "pictures")
    figure = new_figure((7, 3.6))
    curves = [read_curve(Path(folder) / "tokens.csv") for folder in folders]
    from matplotlib import rc_context

    with rc_context(STYLE):
        axes = figure.add_subplot()
        draw = draw_saved if kind == "saved" else draw_bpb
        for i, (label, curve) in enumerate(zip(labels, curves, strict=True)):
            n_bytes, model, mixture = curve[-1]
            label = escaped(label).replace("$", r"\$")  # no formula of matplotlib
            label += f": {model / n_bytes:.3f} → {mixture / n_bytes:.3f} BPB"
            draw(axes, curve, label, COLORS[i % len(COLORS)])
        axes.xaxis.set_major_formatter(units("B"))
        axes.set(xlabel="text", xlim=(0, None))
        figure.legend(loc="outside lower left", ncols=2)  # a legend inside would cover the lines
        metadata = {"Date": None} if out.suffix == ".svg" else None
        with replaced(target, "pictures") as file:
            figure.savefig(file, format=out.suffix[1:], dpi=150, metadata=metadata)


def new_figure(size: tuple[float, float]) -> Any:
    """Empty matplotlib figure of a size in inches, without a window.

    Raises
    ------
    ValueError
        If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "a picture needs the library matplotlib, which is missing; pip install 'ngrammix[plot]'"
        ) from error
    return Figure(figsize=size, layout="constrained")


def units(unit: str) -> Any:
    """Tick labels with a unit and its prefix: 2 MB, 500 kbit."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(unit=unit)


def draw_saved(axes: "Axes", curve: Curve, label: str, color: str) -> None:
    """Draw the bits saved so far over the bytes of text."""
    n_bytes, model, mixture = curve.T
    axes.plot(n_bytes, model - mixture, color=color, label=label)
    axes.yaxis.set_major_formatter(units("bit"))
    axes.set_title("Bits saved by the n-gram cache")


def draw_bpb(axes: "Axes", curve: Curve, label: str, color: str) -> None:
    """Draw the bits per byte of the text so far, of the model and of the mixture."""
    n_bytes, model, mixture = curve[curve[:, 0] > 0.01 * curve[-1, 0]].T
    axes.plot(n_bytes, model / n_bytes, "--", color=color)
    axes.plot(n_bytes, mixture / n_bytes, color=color, label=label)
    axes.set_title("Bits per byte of the text so far: model alone (dashed), with the cache (solid)")


def read_curve(path: Path, max_points: int = MAX_POINTS) -> Curve:
    """Cumulated costs along a `tokens.csv`, at evenly spaced tokens and at the last one.

    Parameters
    ----------
    path : Path
        The file; it is read in blocks.
    max_points : int
        The curve has at most twice as many points, beside the first and the last.

    Returns
    -------
    (P, 3) float64
        Bytes, bits of the model, bits of the mixture, from the first token to each point; the first
        row is 0, the last one the totals.

    Raises
    ------
    ValueError
        If the file is missing, lacks one of these columns, or holds no byte.
    """
    if not path.is_file():
        raise ValueError(
            f"a picture is drawn from tokens.csv, got none in {path.parent}; name a folder that "
            "ngrammix score --out DIR --tokens wrote"
        )
    try:
        blocks = csv.open_csv(
            path,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=COLUMNS, column_types=dict.fromkeys(COLUMNS, "float64")
            ),
        )
        curve = thin_sums((np.stack(block.columns, axis=1) for block in blocks), max_points)
    except (ArrowInvalid, KeyError) as error:
        raise ValueError(
            f"tokens.csv must have the columns {', '.join(COLUMNS)}, got {path}: {error}; score "
            "with a model and a mixer"
        ) from error
    if not curve[-1, 0]:
        raise ValueError(
            f"there must be a byte of text to draw along, got 0 in {path}; score data whose bytes "
            "are known"
        )
    return curve


def thin_sums(blocks: Iterable[Curve], max_points: int) -> Curve:
    """(P, C) sums of the rows so far, after every `step` rows and after the last one.

    The rows come in blocks (N, C). The step is 1 at first, and doubles whenever there are more
    points than twice `max_points`.
    """
    total = np.zeros(len(COLUMNS))
    points = total[None]
    n_rows, step = 0, 1
    for block in blocks:
        sums = total + np.cumsum(block, axis=0)
        first = step - 1 - n_rows % step  # the row whose number is the next multiple of the step
        points = np.concatenate([points, sums[first::step]])
        total, n_rows = sums[-1], n_rows + len(block)
        while len(points) > 2 * max_points + 1:
            points, step = points[::2], 2 * step
    return points if n_rows % step == 0 else np.concatenate([points, total[None]])
