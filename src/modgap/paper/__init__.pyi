from . import dynamics as dynamics
from . import figures as figures
from . import theory as theory
