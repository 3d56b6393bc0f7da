"""What an agent's code is, as a hash: the same for as long as nothing that it is made of has changed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

HASH_DIGITS = 16  # of 64: enough to tell versions of one agent apart


def code_of(play: Callable[..., Any]) -> str | None:
    """Return a hash of a function's source and of all that it uses of its own module; None: it has no code.

    That is the function itself and, as far as they stand at the top of the same file, the functions, classes
    and values that it names, that those name, and so on. Comments, docstrings and empty lines do not count,
    nor does what is imported. Without source text its bytecode counts, which differs between versions of
    Python.
    """
    function = inspect.unwrap(play)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return None
    try:
        own = textwrap.dedent(inspect.getsource(function))
        module = inspect.getmodule(function)
        texts = _relevant(own, "" if module is None else inspect.getsource(module))
        seen = "\n".join(texts)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        seen = repr(list(_bytecode(code)))
    return hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]


def _relevant(own: str, module: str) -> list[str]:
    """Return the source of a function and of the definitions that it reaches, in the order of the module."""
    statements = ast.parse(module).body
    defined: dict[str, list[int]] = {}
    for number, statement in enumerate(statements):
        for name in _defines(statement):
            defined.setdefault(name, []).append(number)
    reached: set[int] = set()
    open_ends = _names(ast.parse(own))
    while open_ends:
        for number in defined.get(open_ends.pop(), ()):
            if number not in reached:
                reached.add(number)
                open_ends |= _names(statements[number])
    lines = module.splitlines()
    return [_bare(own), *(_bare(_lines(lines, statements[number])) for number in sorted(reached))]


def _defines(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module gives something to; imports do not count."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            return
        case _:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def _names(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _lines(lines: list[str], node: ast.stmt) -> str:
    decorators = [d.lineno for d in getattr(node, "decorator_list", ())]
    return "\n".join(lines[min([node.lineno, *decorators]) - 1 : node.end_lineno])


def _bare(source: str) -> str:
    """Return source text without comments, docstrings, empty lines and spaces at the ends of lines."""
    lines = source.splitlines()
    for first, last in _docstrings(ast.parse(textwrap.dedent(source))):
        lines[first - 1 : last] = [""] * (last - first + 1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(stripped for line in lines if (stripped := line.rstrip()))


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0]
            alone = first.lineno > node.lineno  # `def f(): "..."` is one line
            if alone and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.lineno, first.end_lineno or first.lineno


def _bytecode(code: CodeType) -> Iterator[object]:
    yield code.co_code
    yield code.co_names
    for constant in code.co_consts:
        yield list(_bytecode(constant)) if isinstance(constant, CodeType) else constant
