"""Functions out of public scripts that cannot be imported: they parse arguments or train models.

A function is compiled from its source alone, with the names that it needs given by the caller.
"""

from __future__ import annotations
import __future__

import ast
from pathlib import Path
from typing import Any


def load(path: Path, names: set[str], given: dict[str, Any]) -> dict[str, Any]:
    """Return functions and classes of a script by name, without running the script.

    Args:
        path: the script.
        names: what to take from it.
        given: what they need: modules, and functions in place of others.

    Raises:
        SystemExit: the file is missing or lacks one of them.
    """
    if not path.is_file():
        raise SystemExit(f"{path}: no such file; see docs/fidelity.md for the commit to check out")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    tree.body = [node for node in tree.body if isinstance(node, kinds) and node.name in names]
    lacking = names - {node.name for node in tree.body if isinstance(node, kinds)}
    if lacking:
        raise SystemExit(f"{path}: lacks {', '.join(sorted(lacking))}; is it the right commit?")
    found = dict(given)
    # Annotations are not evaluated: they name types of packages that are not needed.
    code = compile(tree, str(path), "exec", flags=__future__.annotations.compiler_flag)
    exec(code, found)
    return found
