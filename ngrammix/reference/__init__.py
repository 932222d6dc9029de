"""The same cache and mixer in slow, plain Python: the specification, and the judge in the tests.

It knows no kernel, table or index, and a probability is a loop. Where a file here and the fast one
disagree, this one is right.
"""

from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.match import ReferenceMatch
from ngrammix.reference.mixer import ReferenceMixer

__all__ = ["ReferenceCache", "ReferenceMatch", "ReferenceMixer"]
