"""The written-out kernels as C++.

Translates the few kinds of statements that occur in the text of :mod:`otf.kernels.generated`:
assignments, loops over a range, conditions and arithmetic. The formulas exist once.
"""

import ast
import inspect
from collections.abc import Callable, Iterator

from otf.arrays import Floats
from otf.kernels.shapes import Rows, text_of

_TYPES = {int: "long", float: "double", Floats: "double *"}
_OPERATORS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Lt: "<",
    ast.Eq: "==",
    ast.USub: "-",
}
_ROW_OF_VIRIAL = 3


def c_function(function: Callable[..., None], rows: Rows) -> str:
    """C++ text of a written-out kernel; the shape, its first argument, is left out."""
    arguments = list(inspect.signature(function).parameters.values())[1:]
    integers = {a.name for a in arguments if a.annotation is int}
    declared = ", ".join(f"{_TYPES[a.annotation]} {a.name}".replace("* ", "*") for a in arguments)
    tree = ast.parse(text_of(function, rows)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    lines = _Scope(integers, set()).block(tree.body)
    return "\n".join([f"static void {function.__name__}({declared})", "{", *lines, "}", ""])


class _Scope:
    """Variables of a block and of those around it.

    Parameters
    ----------
    integers
        Names of integer variables.
    declared
        Names of the variables that are declared.
    """

    def __init__(self, integers: set[str], declared: set[str]) -> None:
        self.integers = integers
        self.declared = declared

    def block(self, statements: list[ast.stmt]) -> list[str]:
        """Lines of C++ of some statements, in a scope of their own."""
        inner = _Scope(set(self.integers), set(self.declared))
        return [f"  {line}" for statement in statements for line in inner.lines(statement)]

    def lines(self, statement: ast.stmt) -> Iterator[str]:
        """Lines of C++ of a statement."""
        match statement:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for name, value in zip(names, values, strict=True):
                    yield self._assignment(name, value)
            case ast.Assign(targets=[target]):
                yield self._assignment(target, statement.value)
            case ast.AugAssign(target=target, op=op, value=value):
                yield f"{_c(target)} {_OPERATORS[type(op)]}= {_c(value)};"
            case ast.For(target=ast.Name(id=name), iter=ast.Call(args=bounds)):
                start = _c(bounds[0]) if len(bounds) == 2 else "0"
                yield f"for (long {name} = {start}; {name} < {_c(bounds[-1])}; ++{name}) {{"
                self.integers.add(name)
                yield from self.block(statement.body)
                yield "}"
            case ast.If(test=test):
                yield f"if ({_c(test)}) {{"
                yield from self.block(statement.body)
                yield "} else {"
                yield from self.block(statement.orelse)
                yield "}"
            case _:
                raise TypeError(f"no C++ for the statement: {ast.unparse(statement)}")

    def _assignment(self, target: ast.expr, value: ast.expr) -> str:
        line = f"{_c(target)} = {_c(value)};"
        if not isinstance(target, ast.Name) or target.id in self.declared | self.integers:
            return line
        if self._is_integer(value):
            self.integers.add(target.id)
            return f"long {line}"
        self.declared.add(target.id)
        return f"double {line}"

    def _is_integer(self, value: ast.expr) -> bool:
        leaves = [n for n in ast.walk(value) if isinstance(n, ast.Name | ast.Constant)]
        return all(
            n.id in self.integers if isinstance(n, ast.Name) else isinstance(n.value, int)
            for n in leaves
        )


def _c(node: ast.expr) -> str:
    """An expression in C++."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Constant(value=value):
            return repr(value)
        case ast.BinOp(left=left, op=op, right=right):
            return f"({_c(left)} {_OPERATORS[type(op)]} {_c(right)})"
        case ast.UnaryOp(op=op, operand=operand):
            return f"({_OPERATORS[type(op)]}{_c(operand)})"
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return f"({_c(left)} {_OPERATORS[type(op)]} {_c(right)})"
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return f"({_c(test)} ? {_c(body)} : {_c(orelse)})"
        case ast.Subscript(value=array, slice=ast.Tuple(elts=[row, column])):
            return f"{_c(array)}[{_ROW_OF_VIRIAL} * {_c(row)} + {_c(column)}]"
        case ast.Subscript(value=array, slice=index):
            return f"{_c(array)}[{_c(index)}]"
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return f"otf_{name}({', '.join(_c(a) for a in arguments)})"
        case _:
            raise TypeError(f"no C++ for the expression: {ast.unparse(node)}")
