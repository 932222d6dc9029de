"""What ``ngrammix bench observe`` prints: one line a peer, and what each gives for its speed."""

from textwrap import fill
from typing import Any

from eval.bench.peers.kenlm import WAYS
from eval.bench.peers.numpy_counts import BITS, CHUNKS

LIMITS = (
    ("limit of the memory system [5]", "limit"),
    ("the same, order by order [6]", "strict_limit"),
)


def key(peer: str) -> str:
    """Name of a peer as part of a JSON key."""
    return peer.replace(",", "").replace(" ", "_").lower()


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"NgramCache.observe, order {result['order']}, {result['tokens']:,} tokens of "
        f"{result['data']}, medians of {result['runs']}",
        "",
        f"{'':35}{'tokens/s':>12}{'cold':>12}  observe is",
        _line(result, "observe, one thread", "observe", cold="cold"),
        _line(result, "observe, two threads", "two threads", cold="two threads cold"),
        _line(result, "token by token [1]", "token by token"),
        *(_line(result, f"numpy, chunks of {n:,} [2]", peer) for peer, n in CHUNKS.items()),
        *(_line(result, f"KenLM, {way} [3]", peer) for peer, way in WAYS.items()),
        *(_line(result, f"{peer} [4]", peer) for peer in ("Python dict", "Python dict, tuned")),
    ]
    for name, limit in LIMITS:
        share = f"{100 * result[f'ratio_to_{limit}']:.0f} % of this"
        lines.append(f"{name:35}{result[f'{limit}_tokens_per_second']:>12,.0f}{'':14}{share}")
    return "\n".join([*lines, "", *_notes(result)])


def _line(result: dict[str, Any], name: str, peer: str, cold: str = "") -> str:
    """Speed of one peer, and how much faster ours is, on one thread."""
    rate = result[f"tokens_per_second_{key(peer)}"]
    if rate is None:
        return f"{name:35}  {result['kenlm']}"
    cold_rate = f"{result[f'tokens_per_second_{key(cold)}']:,.0f}" if cold else ""
    text = f"{name:35}{rate:>12,.0f}{cold_rate:>12}"
    if peer == "two threads":
        return f"{text}  {result['ratio_two_threads_to_one']:.2f} times one thread, same bits"
    ratio = result.get(f"ratio_to_{key(peer)}")
    return text if ratio is None else f"{text}  {ratio:.2f} times as fast"


def _notes(result: dict[str, Any]) -> list[str]:
    """What each number is of, and what a peer gives less than ours."""
    kenlm = "[3] would only ask a frozen model, and learn nothing"
    if result["tokens_per_second_kenlm"] is not None:
        kenlm = (
            f"[3] version {result['kenlm']}, from Python; only asks a frozen model, here of the "
            f"stream's head, and learns nothing: one probability a token, order "
            f"{result['kenlm_order']}, for the {result['kenlm_tokens']:,} tokens after the head. "
            "BaseScore is a call a token, full_scores a generator, score one call for the sum "
            "alone. The ratios are of observe at that order on the same tokens, the head learned "
            f"before: {result['tokens_per_second_observe_beside_kenlm']:,.0f} tokens/s"
        )
    notes = [
        "tokens/s: of memory touched before, ours by the same cache until it was cleared; cold: "
        "the first pass of a fresh cache; both include the growth of the index",
        "[1] the same tables and evidence, of their final size from the start; observe on two "
        f"threads is {result['ratio_two_threads_to_token_by_token']:.2f} times as fast",
        "[2] gives less: plain counts of context and n-gram as they were before the chunk, no "
        "hints, no ages; and trusts its hash: what meets in one of the "
        f"2**{BITS} buckets of its order shares a count",
        kenlm,
        f"[4] {result['dict_tokens']:,} tokens, once; slows down as it grows",
        f"[5] {result['reads_per_second']:,.0f} random reads/s, one thread, over the "
        f"{result['table_bytes']:,} bytes that the tables hold; a token needs "
        f"{result['reads_per_token']}, one line of the index and one row an order",
        "[6] each order's reads from its own index and rows alone; small ones lie in the "
        "processor's caches",
    ]
    return [
        *(fill(note, 96, subsequent_indent="    " * (note[0] == "[")) for note in notes),
        "",
        f"{result['ngrams']:,} n-grams in {result['bytes']:,} bytes",
        f"compiling or loading the kernels took {result['compile_seconds']:.2f} s more "
        f"(token by token: {result['peer_compile_seconds']:.2f} s)",
    ]
