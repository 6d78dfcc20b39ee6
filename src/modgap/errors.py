"""What modgap raises. Every message names the argument, the rule, the values seen, and the fix."""


class ModgapError(Exception):
    """Base of every error that a caller can mend; the command line prints it as one line."""


class ShapeError(ModgapError, ValueError):
    """An array has the wrong number of axes, or two arrays do not fit together."""


class DataError(ModgapError, ValueError):
    """An array's values cannot be used: NaN, a row without direction, a type without fractions."""


class ArgumentError(ModgapError, ValueError):
    """An option is outside its range, or two options exclude each other."""


class CodeError(ArgumentError):
    """A code cannot be learnt from these rows, or cannot store them; other noises still can act."""


class FormatError(ModgapError, ValueError):
    """A file is missing, broken, or of another kind than its name says."""


class ClosureError(ModgapError, ValueError):
    """A closure is used on embeddings, or under a metric, that it was not fitted for."""


class EngineError(ModgapError, RuntimeError):
    """An engine of vectors is down, out of space, or refuses what it is asked."""


class RoomError(ModgapError, MemoryError):
    """Memory, of the host or of a GPU, has no room for what is asked."""


class MissingExtraError(ModgapError, ImportError):
    """An optional package is not installed; the message holds the pip command."""


class WorkerError(ModgapError, RuntimeError):
    """A process or a cluster that does the work is gone, or was never there."""


class SimulationWarning(UserWarning):
    """A simulation ran, but with settings that its theory does not cover."""


class ClosureWarning(UserWarning):
    """A closer ran, but there was little or nothing that it could close."""


class CodeWarning(UserWarning):
    """A code of embeddings was learnt, but from fewer rows than it wants."""


class ModelError(ModgapError, RuntimeError):
    """A model cannot be loaded or run: no such name, no weights at hand, too little memory."""
