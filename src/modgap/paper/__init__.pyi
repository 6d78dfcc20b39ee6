from . import dynamics as dynamics
from . import figures as figures
from . import theory as theory
from .verifying import Check as Check
from .verifying import Verification as Verification
from .verifying import verify as verify
