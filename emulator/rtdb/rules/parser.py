"""From the text of an expression to its syntax tree, with every type that can be known checked on the way.

What production refuses when rules are deployed is refused here: unknown variables, methods and properties, a wrong
number or type of arguments, operands that can never fit, conditions that are not plainly boolean.
"""

from collections.abc import Mapping

from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.rules import regex, syntax
from emulator.rtdb.rules.errors import ExpressionError
from emulator.rtdb.rules.lexer import Token, tokens
from emulator.rtdb.rules.syntax import Expression
from emulator.rtdb.rules.values import CLAIM, COMPARABLE, PRIMITIVE, Types
from emulator.rtdb.values import parse_path

_NESTING_MAX = 100
_BINDING = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("==", "!=", "===", "!=="), 3),
    **dict.fromkeys(("<", "<=", ">", ">="), 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/", "%"), 6),
}
_ORDERED = Types.NULL | Types.NUMBER | Types.STRING
_LITERALS = {"true": (True, Types.BOOLEAN), "false": (False, Types.BOOLEAN), "null": (None, Types.NULL)}


def parse(text: str, variables: Mapping[str, Types]) -> tuple[Expression, frozenset[str]]:
    """The tree of an expression whose result is boolean, and the variables it uses. Raises ExpressionError."""
    parser = _Parser(text, variables)
    expression = parser.conditional()
    parser.expect_end()
    if expression.types != Types.BOOLEAN:
        raise ExpressionError("The rule must evaluate to a boolean.", expression.offset)
    return expression, frozenset(parser.used)


class _Parser:
    def __init__(self, text: str, variables: Mapping[str, Types]) -> None:
        self._tokens = tokens(text)
        self._next = 0
        self._variables = variables
        self._nesting = 0
        self.used: set[str] = set()

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _advance(self) -> Token:
        token = self._token
        self._next += 1
        return token

    def _accept(self, operator: str) -> bool:
        if self._token.kind == "operator" and self._token.text == operator:
            self._next += 1
            return True
        return False

    def _expect(self, operator: str) -> None:
        if not self._accept(operator):
            raise self._unexpected(f"Expected '{operator}'")

    def expect_end(self) -> None:
        if self._token.kind != "end":
            raise self._unexpected("Expected the end of the rule")

    def _unexpected(self, wanted: str) -> ExpressionError:
        found = f"'{self._token.text}'" if self._token.text else "the end"
        return ExpressionError(f"{wanted}, found {found}.", self._token.offset)

    def conditional(self) -> Expression:
        self._nesting += 1
        if self._nesting > _NESTING_MAX:
            raise ExpressionError("The rule is nested too deeply.", self._token.offset)
        condition = self._binary(1)
        if self._accept("?"):
            if condition.types != Types.BOOLEAN:
                raise ExpressionError("The condition of ? must be boolean.", condition.offset)
            chosen = self.conditional()
            self._expect(":")
            condition = syntax.Conditional(condition, chosen, self.conditional(), condition.offset)
        self._nesting -= 1
        return condition

    def _binary(self, binding_min: int) -> Expression:
        left = self._unary()
        while True:
            token = self._token
            binding = _BINDING.get(token.text) if token.kind == "operator" else None
            if binding is None or binding < binding_min:
                return left
            self._advance()
            left = _operation(token, left, self._binary(binding + 1))

    def _unary(self) -> Expression:
        token = self._token
        if token.kind == "operator" and token.text in ("!", "-"):
            self._advance()
            self._nesting += 1
            if self._nesting > _NESTING_MAX:
                raise ExpressionError("The rule is nested too deeply.", token.offset)
            operand = self._unary()
            self._nesting -= 1
            if token.text == "!":
                if operand.types != Types.BOOLEAN:
                    raise ExpressionError("! only operates on booleans.", operand.offset)
                return syntax.Not(operand, token.offset)
            if not operand.types & Types.NUMBER:
                raise ExpressionError("- only operates on numbers.", operand.offset)
            return syntax.Negate(operand, token.offset)
        return self._postfix(self._primary())

    def _primary(self) -> Expression:
        token = self._advance()
        if token.kind == "number":
            return syntax.Literal(token.value, Types.NUMBER, token.offset)
        if token.kind == "string":
            return syntax.Literal(token.value, Types.STRING, token.offset)
        if token.kind == "regex":
            assert isinstance(token.value, str)
            return syntax.RegexLiteral(regex.translate(token.value, token.flags, token.offset), token.offset)
        if token.kind == "name":
            if token.text in _LITERALS:
                value, types = _LITERALS[token.text]
                return syntax.Literal(value, types, token.offset)
            if token.text not in self._variables:
                raise ExpressionError(f"Unknown variable '{token.text}'.", token.offset)
            self.used.add(token.text)
            return syntax.Variable(token.text, self._variables[token.text], token.offset)
        if token.kind == "operator" and token.text == "(":
            inner = self.conditional()
            self._expect(")")
            return inner
        if token.kind == "operator" and token.text == "[":
            return self._keys(token)
        self._next -= 1
        raise self._unexpected("Expected an expression")

    def _keys(self, opening: Token) -> syntax.KeyList:
        items: list[Expression] = []
        while not self._accept("]"):
            if items:
                self._expect(",")
            item = self.conditional()
            if item.types != Types.STRING:
                raise ExpressionError("hasChildren takes an array of strings.", item.offset)
            _check_path_literal(item)
            items.append(item)
        if not items:
            raise ExpressionError("hasChildren takes an array with at least one string.", opening.offset)
        return syntax.KeyList(tuple(items), opening.offset)

    def _postfix(self, target: Expression) -> Expression:
        while True:
            if self._accept("."):
                name = self._advance()
                if name.kind != "name":
                    self._next -= 1
                    raise self._unexpected("Expected the name of a method or property")
                target = self._call(target, name) if self._accept("(") else _property(target, name)
            elif self._token.kind == "operator" and self._token.text == "[":
                offset = self._advance().offset
                index = self.conditional()
                self._expect("]")
                if not target.types & Types.MAP or not index.types & (Types.STRING | Types.NUMBER):
                    raise ExpressionError("Invalid property access.", offset)
                target = syntax.Member(target, index, CLAIM, offset)
            elif self._token.kind == "operator" and self._token.text == "(":
                raise ExpressionError("Function call on a target that is not a function.", self._token.offset)
            else:
                return target

    def _call(self, target: Expression, name: Token) -> Expression:
        arguments: list[Expression] = []
        while not self._accept(")"):
            if arguments:
                self._expect(",")
            arguments.append(self.conditional())
        if target.types == Types.SNAPSHOT and name.text in syntax.SNAPSHOT_METHODS:
            method = syntax.SNAPSHOT_METHODS[name.text]
            if not (method.optional and not arguments):
                _check_arguments(name, arguments, method.parameters)
            if method.takes_path:
                _check_path_literal(arguments[0])
            return syntax.SnapshotCall(target, method, tuple(arguments), name.offset)
        if target.types & Types.STRING and name.text in syntax.STRING_METHODS:
            parameters, result = syntax.STRING_METHODS[name.text]
            _check_arguments(name, arguments, parameters)
            return syntax.StringCall(target, name.text, tuple(arguments), result, name.offset)
        raise ExpressionError(f"No such method/property '{name.text}'.", name.offset)


def _property(target: Expression, name: Token) -> Expression:
    literal = syntax.Literal(name.text, Types.STRING, name.offset)
    if target.types == Types.QUERY and name.text in syntax.QUERY_MEMBERS:
        return syntax.Member(target, literal, syntax.QUERY_MEMBERS[name.text], name.offset)
    if target.types & Types.MAP:
        return syntax.Member(target, literal, CLAIM, name.offset)
    if target.types & Types.STRING and name.text == "length":
        return syntax.Member(target, literal, Types.NUMBER, name.offset)
    raise ExpressionError(f"No such method/property '{name.text}'.", name.offset)


def _check_arguments(name: Token, arguments: list[Expression], parameters: tuple[Types, ...]) -> None:
    if len(arguments) != len(parameters):
        raise ExpressionError(
            f"{name.text} expects {len(parameters)} arguments, but got {len(arguments)} instead.", name.offset
        )
    for position, (argument, wanted) in enumerate(zip(arguments, parameters, strict=True), start=1):
        if not argument.types & wanted:
            kind = {Types.REGEX: "a regular expression literal", Types.KEYS: "an array of strings"}.get(
                wanted, "a string"
            )
            raise ExpressionError(f"{name.text} expects argument {position} to be {kind}.", argument.offset)


def _check_path_literal(argument: Expression) -> None:
    if isinstance(argument, syntax.Literal) and isinstance(argument.value, str):
        try:
            parse_path(argument.value)
        except InvalidRequest as error:
            raise ExpressionError(f"Invalid path '{argument.value}'.", argument.offset) from error


def _operation(token: Token, left: Expression, right: Expression) -> Expression:
    operator = token.text
    if operator in ("&&", "||"):
        for side, operand in (("Left", left), ("Right", right)):
            if operand.types != Types.BOOLEAN:
                raise ExpressionError(f"{side} operand of {operator} must be boolean.", operand.offset)
        # A long chain is one flat node, so that it does not nest.
        chained = isinstance(left, syntax.Logical) and left.operator == operator
        operands = left.operands if isinstance(left, syntax.Logical) and chained else (left,)
        return syntax.Logical(operator, (*operands, right), token.offset)
    if operator in ("==", "!=", "===", "!=="):
        _check_operands(token, left, right, COMPARABLE, "comparable")
        return syntax.Binary(operator, left, right, Types.BOOLEAN, token.offset)
    if operator == "+":
        _check_operands(token, left, right, Types.NUMBER | Types.STRING, "numbers or strings")
        return syntax.Binary(operator, left, right, _sum_types(left.types, right.types), token.offset)
    if operator in ("-", "*", "/", "%"):
        _check_operands(token, left, right, Types.NUMBER, "numbers")
        return syntax.Binary(operator, left, right, Types.NUMBER, token.offset)
    _check_operands(token, left, right, _ORDERED, "numbers or strings")
    if not left.types & right.types & _ORDERED:
        raise ExpressionError(f"Invalid {operator} expression: the types of both sides differ.", token.offset)
    return syntax.Binary(operator, left, right, Types.BOOLEAN, token.offset)


def _check_operands(token: Token, left: Expression, right: Expression, allowed: Types, wanted: str) -> None:
    if not (left.types & allowed and right.types & allowed):
        raise ExpressionError(
            f"Invalid {token.text} expression: left and right operands must be {wanted}.", token.offset
        )


def _sum_types(left: Types, right: Types) -> Types:
    if Types.STRING in (left, right):
        return Types.STRING
    if left == right == Types.NUMBER:
        return Types.NUMBER
    return PRIMITIVE & (Types.NUMBER | Types.STRING)
