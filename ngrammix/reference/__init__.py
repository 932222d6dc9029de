"""The cache and the mixer in slow, plain Python: the specification that the tests compare with.

Nothing here uses a kernel, a table or an index, and every probability is computed in a loop. Where
a file here and its fast counterpart disagree, the file here is right.
"""

from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.match import ReferenceMatch
from ngrammix.reference.mixer import ReferenceMixer

__all__ = ["ReferenceCache", "ReferenceMatch", "ReferenceMixer"]
