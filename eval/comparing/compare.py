"""Compare mixers and published rules on a data set, with one forward pass of a model."""

from collections.abc import Sequence
from typing import Any

from eval.comparing.comparison import compare_source
from eval.comparing.names import DEFAULT
from eval.comparing.result import ComparisonResult, make_comparison_result
from eval.comparing.sources import TextSource
from eval.config import ScoreConfig
from eval.models.base import Model


def compare(
    model: Model,
    data: Any,
    mixers: Sequence[str] = DEFAULT,
    config: ScoreConfig | None = None,
    *,
    tokenizer: Any = None,
    progress: bool = False,
) -> ComparisonResult:
    """Figures of each mixer on the same tokens and logits, with paired standard errors.

    Parameters
    ----------
    model : Model
        Language model.
    data : Data, or what `open_data` takes
        Documents, in the order in which every cache learns them. All of them are tokenized at once.
    mixers : sequence of str
        ``"ngrammix"``, mixers with fewer experts such as ``"gate+guard"``, and published rules. The
        others are compared with the first. Default: ngrammix and every published rule.
    config : ScoreConfig, optional
        Order, memory limit, windows and number of documents, as for `eval.score`; its `mixer` is
        not used.
    tokenizer : Tokenizer, path or object, optional
        See `load_tokenizer`. Default: the model's own.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    ValueError
        If a mixer is unknown or named twice, a document cannot be decoded byte for byte, or the
        windows do not fit the model.

    Examples
    --------
    >>> from eval import Document, Documents, compare, load_model
    >>> data = Documents([Document("cats", b"The cat sat on the mat. " * 40)])
    >>> result = compare(load_model("demo"), data, ["ngrammix", "entropy"])
    >>> [(row.mixer, round(row.score, 2)) for row in result.rows]
    [('model', 1.0), ('ngrammix', 0.13), ('entropy', 0.29)]
    """
    config = ScoreConfig() if config is None else config
    source = TextSource(data, model, config, tokenizer)
    comparison = compare_source(
        source, mixers, config.order, memory_limit=config.memory_limit, progress=progress
    )
    return make_comparison_result(comparison, source)
