# The public names, each beside its home. `__init__.py` reads this list and imports a name when it is
# first used; type checkers and editors read the same list.

from . import closers as closers
from . import decisions as decisions
from . import errors as errors
from . import evaluation as evaluation
from . import exports as exports
from . import index as index
from . import io as io
from . import measures as measures
from . import paper as paper
from . import report as report
from . import robustness as robustness
from . import samples as samples
from ._core.moments import Moments as Moments
from .closers import AffineMap as AffineMap
from .closers import Closure as Closure
from .closers import fit as fit
from .closers import fit_moments as fit_moments
from .closers import load as load
from .decisions import COSINE as COSINE
from .decisions import EUCLIDEAN as EUCLIDEAN
from .decisions import INNER_PRODUCT as INNER_PRODUCT
from .decisions import Metric as Metric
from .decisions import certified_radius as certified_radius
from .decisions import nearest as nearest
from .evaluation import Advice as Advice
from .evaluation import Calibrations as Calibrations
from .evaluation import MixedRetrieval as MixedRetrieval
from .evaluation import MultipleChoice as MultipleChoice
from .evaluation import PairedRetrieval as PairedRetrieval
from .evaluation import Study as Study
from .evaluation import ZeroShot as ZeroShot
from .evaluation import advise as advise
from .evaluation import calibration as calibration
from .evaluation import evaluate as evaluate
from .exports import export as export
from .measures import Drift as Drift
from .measures import Gap as Gap
from .measures import GapInBits as GapInBits
from .measures import drift as drift
from .measures import gap_in_bits as gap_in_bits
from .measures import look as look
from .measures import measure as measure
from .robustness import Bins as Bins
from .robustness import Bits as Bits
from .robustness import Codec as Codec
from .robustness import Dims as Dims
from .robustness import FaissCodec as FaissCodec
from .robustness import Gaussian as Gaussian
from .robustness import Sign as Sign
from .robustness import Uniform as Uniform
from .robustness import stability as stability
from .samples import load_sample as load_sample

__version__: str
