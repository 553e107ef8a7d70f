"""The errors that fanin raises for a user's mistake, each with a message to act on.

Every message names the file, line or setting, what was wrong, and what to do. The command line prints it
without a traceback and exits with 2. Our own broken invariants are plain ``AssertionError``.
"""


class FaninError(ValueError):
    """Base of all errors that a user can mend."""


class DataError(FaninError):
    """A data file or array is missing, malformed or inconsistent."""


class ConfigError(FaninError):
    """A recipe, an option or an argument is invalid."""


class CheckpointError(FaninError):
    """A saved model or checkpoint cannot be read, or is not one of ours."""


class BackendError(FaninError):
    """A kernel backend was asked for that cannot serve the request."""


class MemoryPlanError(FaninError):
    """A run would not fit into the memory it may use."""
