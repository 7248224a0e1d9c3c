"""The front door: servers -> load -> verdict -> report."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout. Tokenswarm is an application: it runs from here, with its rooms beside this package."""


class TokenswarmError(Exception):
    """A mistake that the user can mend: one line, and the exit code that says which kind."""

    def __init__(self, text: str, exit_code: int, tail: tuple[str, ...] = ()) -> None:
        """2 is a wrong argument or file; 6 is something that did not start, whose log ends in `tail`."""
        super().__init__(text)
        self.exit_code = exit_code
        self.tail = tail


EXIT_INTERNAL, EXIT_USAGE, EXIT_INVALID, EXIT_NOT_STARTED, EXIT_INTERRUPTED = 1, 2, 5, 6, 130
