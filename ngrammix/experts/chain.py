"""Experts: what is made of a position's evidence, in the order tilt, gate, guard."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix import snapshot
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import MIXING_DISCOUNT, log_target_probability
from ngrammix.candidates.proposer import Hints
from ngrammix.experts.gate import Gate
from ngrammix.experts.guard import AnyGuard, Guard, SwitchingGuard, Unguarded
from ngrammix.experts.tilt import Tilt
from ngrammix.logits import ModelLogprobs

ALL = "tilt+gate+guard"
CHOICES = [  # every one but none at all
    "+".join(filter(None, (tilt, gate, guard)))
    for guard, tilt, gate in product(("guard", "switch", ""), ("tilt", ""), ("gate", ""))
][:-1]

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
        guards: dict[str, Callable[[], AnyGuard]] = {"guard": Guard, "switch": SwitchingGuard}
        self.guard = guards.get(chosen[-1], Unguarded)()

    @property
    def needs_hints(self) -> bool:
        """Whether hints change anything: not without the tilt."""
        return self._tilt is not None

    @property
    def nbytes(self) -> int:
        """Bytes of what was learned."""
        return sum(expert.nbytes for expert in (self._tilt, self._gate) if expert is not None)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, by name; still in use."""
        chain = {"tilt": self._tilt, "gate": self._gate, "guard": self.guard}
        return {
            f"{expert} {name}": array
            for expert, its in chain.items()
            if its is not None
            for name, array in its.state().items()
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on with what was learned; ValueError unless such experts can have learned it."""
        snapshot.load_arrays(self.state(), state)
        for expert in (self._tilt, self._gate):
            if expert is not None:
                expert.check()

    def mix(
        self,
        targets: NDArray[np.int64],
        model: ModelLogprobs,
        evidence: Evidence,
        hints: Hints | None = None,
    ) -> Floats:
        """(T,) float64 nats: log-probability of each target under the mixture, then learned from.

        Without hints, for which the model was then not asked, the tilt stands aside.
        """
        log_inner = model.log_p
        if self._tilt is not None and hints is not None:
            log_inner = self._tilt.mix(targets, model, hints)
        if self._gate is not None:
            log_q = log_target_probability(evidence, self._vocab_size, MIXING_DISCOUNT)
            cells = self._gate.cells(evidence, model.entropy)
            log_inner = self._gate.mix(log_inner, log_q, cells)
        return self.guard.mix(model.log_p, log_inner)

    def distribution(
        self,
        p: Floats,
        q: Callable[..., Floats],
        evidence: Evidence,
        model: ModelLogprobs,
        hints: Hints,
    ) -> Floats:
        """(V,) float64: the mixture at one position, from the model's p (V,).

        q gives the cache's (V,) at a `discount`: it takes long, and is not always needed.
        """
        if hints.n_votes[0] == 0:  # no evidence, no change
            return p
        inner = p
        if self._tilt is not None:
            inner = self._tilt.distribution(p, model, hints)
        if self._gate is not None:
            w = self._gate.weight(int(self._gate.cells(evidence, model.entropy)[0]))
            inner = (1 - w) * inner + w * q(discount=MIXING_DISCOUNT)
        trust, rest = self.guard.weights
        return trust * p + rest * inner
