"""Experts: tilt, gate and guard, applied to the model's probabilities one after the other."""

from collections.abc import Callable

from ngrammix import snapshot
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import MIXING_DISCOUNT, log_target_probability
from ngrammix.candidates.proposer import Hints
from ngrammix.experts.choices import check_experts
from ngrammix.experts.gate import Gate
from ngrammix.experts.guard import AnyGuard, Guard, SwitchingGuard, Unguarded
from ngrammix.experts.tilt import Tilt
from ngrammix.model_logprobs import ModelLogprobs
from ngrammix.observed import Observed
from ngrammix.types import Floats, StateDict


class Experts:
    """The experts of one stream, with their learned weights.

    Parameters
    ----------
    experts : str
        One of `CHOICES`; "switch" is the switching guard.
    order, vocab_size : int
        Order and vocabulary size of the cache.

    Raises
    ------
    ValueError
        If `experts` is not one of `CHOICES`.
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
        """Whether an expert uses hints: the tilt does."""
        return self._tilt is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the learned weights."""
        return sum(expert.nbytes for expert in (self._tilt, self._gate) if expert is not None)

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""
        experts = {"tilt": self._tilt, "gate": self._gate, "guard": self.guard}
        return snapshot.join(
            {name: expert.state_dict() for name, expert in experts.items() if expert is not None}
        )

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Copy learned arrays; ValueError if they do not fit or no stream can lead to them.

        Nothing is changed then.
        """
        own = self.state_dict()
        before = {name: array.copy() for name, array in own.items()}
        try:
            snapshot.load_arrays(own, state_dict)
            for expert in (self._tilt, self._gate, self.guard):
                if expert is not None:
                    expert.check()
        except ValueError:
            snapshot.load_arrays(own, before)
            raise

    def mix(self, observed: Observed, logprobs: ModelLogprobs) -> Floats:
        """(T,) float64, nats: log-probability of each token under the mixture.

        Each expert learns from a token before it mixes the next one. If nothing was observed for
        the tilt (`observed.hints` is None), the tilt is left out.
        """
        log_inner = logprobs.log_p
        if self._tilt is not None and observed.hints is not None:
            log_inner = self._tilt.mix(observed.tokens, logprobs, observed.hints)
        if self._gate is not None:
            log_q = log_target_probability(observed.evidence, self._vocab_size, MIXING_DISCOUNT)
            cells = self._gate.cells(observed.evidence, logprobs.entropy)
            log_inner = self._gate.mix(log_inner, log_q, cells)
        return self.guard.mix(logprobs.log_p, log_inner)

    def distribution(
        self,
        p: Floats,
        q: Callable[..., Floats],
        evidence: Evidence,
        logprobs: ModelLogprobs,
        hints: Hints,
    ) -> Floats:
        """(V,) float64: the mixture at one position, from the model's p (V,).

        ``q(discount=...)`` returns the cache's distribution (V,); it is called only if needed.
        """
        if hints.n_votes[0] == 0:  # no context was seen before: the model alone
            return p
        inner = p
        if self._tilt is not None:
            inner = self._tilt.distribution(p, logprobs, hints)
        if self._gate is not None:
            w = self._gate.weight(int(self._gate.cells(evidence, logprobs.entropy)[0]))
            inner = (1 - w) * inner + w * q(discount=MIXING_DISCOUNT)
        weight_model, weight_inner = self.guard.weights
        return weight_model * p + weight_inner * inner
