"""The names of what can be compared: mixers and published rules.

It imports no kernel, so that a parser may use it.
"""

from collections.abc import Sequence

from ngrammix.experts.choices import ALL, CHOICES

WHOLE = "ngrammix"  # the mixer with all its experts; others bear the names of their experts
MIXER_NAMES = (WHOLE, *(experts for experts in CHOICES if experts != ALL))
RULE_NAMES = ("fixed", "entropy", "dirichlet", "one-hint", "hedge")  # of published rules
NAMES = (*MIXER_NAMES, *RULE_NAMES)
DEFAULT = (WHOLE, *RULE_NAMES)


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError unless the names are different ones of `NAMES`."""
    for name in names:
        if name not in NAMES:
            raise ValueError(f"mixers must be of {', '.join(NAMES)}, got {name!r}; check the name")
    if len(set(names)) < len(names):
        raise ValueError(f"mixers must differ, got {','.join(names)}; name each one once")
