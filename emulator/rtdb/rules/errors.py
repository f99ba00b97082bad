"""Errors of the rules language."""


class RulesError(Exception):
    """Rules that cannot be loaded. `path` is the place in them ("/users/$uid/.read"), line and column count from 1."""

    def __init__(self, message: str, *, path: str, line: int, column: int) -> None:
        super().__init__(f"Line {line}, column {column}, at {path or '/'}: {message}")
        self.message = message
        self.path = path
        self.line = line
        self.column = column


class ExpressionError(Exception):
    """An expression that cannot be compiled; `offset` is the place in its text."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class EvaluationError(Exception):
    """A type error while a rule is evaluated: the rule is false then, whatever else it says."""
