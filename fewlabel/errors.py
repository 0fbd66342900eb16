"""The errors that people see: one line that says what is wrong, where, and the mend."""

__all__ = ["Interrupted", "TrainingError", "UserError"]


class UserError(ValueError):
    """Wrong usage or bad input (exit status 2). The message names the place and the mend."""


class TrainingError(RuntimeError):
    """Work that failed while it was under way (exit status 1): a loss of NaN, a full disk."""


class Interrupted(TrainingError):
    """Training was asked to stop, and stopped with a checkpoint."""
