"""Experts: what is made of a position's evidence, in the order tilt, gate, guard."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.backoff import BESIDE_MODEL, log_target_probability
from ngrammix.evidence import Evidence
from ngrammix.gate import Gate
from ngrammix.guard import AnyGuard, Guard, SwitchingGuard, Unguarded
from ngrammix.hints import Hints
from ngrammix.logits import Gathered
from ngrammix.tilt import Tilt

ALL = "tilt+gate+guard"
CHOICES = [  # every choice, in the order in which they stand around the model
    "+".join(name for name in names if name)
    for guard in ("guard", "switch", "")
    for names in (("tilt", "gate", guard), ("tilt", guard), ("gate", guard), (guard,))
    if any(names)
]

Floats = NDArray[np.float64]


def check_experts(experts: object) -> str:
    """Return `experts`, or raise ValueError unless they are one of the choices."""
    if experts not in CHOICES:
        raise ValueError(
            f"experts must be of tilt, gate, and guard or switch, in this order, got {experts!r}; "
            f'leave them out for "{ALL}"'
        )
    return str(experts)


class Experts:
    """The chain of experts around the model, with what they learned; one stream.

    Parameters
    ----------
    experts : str
        Which ones: `ALL`, or fewer; ``switch`` is the switching guard.
    order, vocab_size : int
        Of the cache whose evidence is given.

    Raises
    ------
    ValueError
        If `experts` is no such choice.
    """

    def __init__(self, experts: str, order: int, vocab_size: int) -> None:
        self.names = check_experts(experts)
        chosen = self.names.split("+")
        self._vocab_size = vocab_size
        self._tilt = Tilt() if "tilt" in chosen else None
        self._gate = Gate(order) if "gate" in chosen else None
        guards: dict[str, Any] = {"guard": Guard, "switch": SwitchingGuard}
        self.guard: AnyGuard = guards.get(chosen[-1], Unguarded)()

    @property
    def needs_hints(self) -> bool:
        """Whether the model must be asked for hints."""
        return self._tilt is not None

    @property
    def nbytes(self) -> int:
        """Bytes of what was learned."""
        return sum(expert.nbytes for expert in (self._tilt, self._gate) if expert is not None)

    def mix(
        self, targets: NDArray[np.int64], log_p: Floats, entropy: Floats, evidence: Evidence,
        model: Gathered | None = None, hints: Hints | None = None,
    ) -> Floats:  # fmt: skip
        """(T,) float64 nats: log-probability of each target under the mixture, then learned from.

        log_p, entropy (T,) float64 nats, NaN where the entropy is not known; without model and
        hints the tilt stands aside.
        """
        log_inner = log_p
        if self._tilt is not None and model is not None and hints is not None:
            log_inner = self._tilt.mix(log_p, targets, model, hints)
        if self._gate is not None:
            log_q = log_target_probability(evidence, self._vocab_size, BESIDE_MODEL)
            log_inner = self._gate.mix(log_inner, log_q, self._gate.cells(evidence, entropy))
        return self.guard.mix(log_p, log_inner)

    def distribution(
        self, p: Floats, q: Callable[[], Floats], evidence: Evidence, model: Gathered, hints: Hints
    ) -> Floats:
        """(V,) float64: the mixture at one position, from the model's p (V,) and the cache's q."""
        if hints.n_votes[0] == 0:  # no evidence, no change
            return p
        inner = p
        if self._tilt is not None:
            inner = self._tilt.distribution(p, model, hints)
        if self._gate is not None:
            w = self._gate.weight(int(self._gate.cells(evidence, model.entropy)[0]))
            inner = (1 - w) * inner + w * q()
        trust, rest = self.guard.weights
        return trust * p + rest * inner
