"""The tables of ``ngrammix bench findings``."""

from typing import Any

from eval.tables import align


def table(result: dict[str, Any]) -> str:
    """Text of the result: errors and losses, then bytes."""
    correlation = result["rank_correlation"]
    return "\n".join(
        [
            f"{result['signature']} = {result['bpb']:.4f}",
            "",
            *align([losses_header(), *map(losses, result["quantizers"])]),
            "",
            "MSE and error: of all quantized weights; foretold: half of the error, in BPB; "
            "best bytes: the smallest",
            "file; curves: what RTN and GPTQ with steps by standard deviations lose at these bytes",
            "",
            f"rank correlation with the loss in BPB: MSE {show(correlation['relative_mse'], '.3f')}"
            f", error {show(correlation['error'], '.3f')}",
            "",
            *align([sizes_header(result), *map(sizes, result["quantizers"])]),
            "",
            "bytes of the file, codes a byte each; then what packing them adds",
        ]
    )


def losses_header() -> tuple[str, ...]:
    """Names of the columns of errors and losses."""
    curves = ("RTN curve", "GPTQ curve")
    return ("", "MSE", "error", "foretold", "BPB", "lost", "best bytes", *curves)


def losses(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of errors and losses."""
    return (
        row["name"],
        f"{row['relative_mse']:.3e}",
        f"{row['error']:.3e}",
        f"{row['loss_foretold']:.5f}",
        f"{row['bpb']:.5f}",
        f"{row['loss']:+.5f}",
        f"{row['best_bytes']:,}",
        *(show(loss, ".5f") for loss in row["loss_at_bytes"].values()),
    )


def sizes_header(result: dict[str, Any]) -> tuple[str, ...]:
    """Names of the columns of bytes."""
    codecs = list(result["quantizers"][0]["packing_percent"])
    return ("", *codecs, *(f"packed {codec}" for codec in codecs))


def sizes(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of bytes."""
    return (
        row["name"],
        *(f"{size:,}" for size in row["file_bytes"]["bytes"].values()),
        *(f"{percent:+.1f} %" for percent in row["packing_percent"].values()),
    )


def show(number: float | None, form: str) -> str:
    """The number in this form, or a dash."""
    return "-" if number is None else format(number, form)
