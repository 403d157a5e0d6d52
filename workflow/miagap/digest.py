"""Digests of code and settings: what an artifact was made by.

Snakemake does not see which library modules a script imports. A rule's ``params``
therefore carry the digest of the script and of every ``miagap`` module that it imports,
directly or through others, so that a change in the code of a stage reruns that stage.
Comments, docstrings and formatting do not count: they cannot change a number.
"""

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent


def code_digest(script: str | Path) -> str:
    """Return the SHA-256 (hex, 16 digits) of a script and the library modules it imports."""
    sha = hashlib.sha256()
    script = Path(script)
    sources = sorted(_reachable(script), key=lambda path: path.as_posix())
    for path in sources:
        name = path.relative_to(PACKAGE).as_posix() if PACKAGE in path.parents else path.name
        sha.update(name.encode())
        sha.update(_normalised(path).encode())
    return sha.hexdigest()[:16]


def library_modules(script: str | Path) -> set[str]:
    """Return the library modules that a script's digest covers: ``attacks/lira.py``."""
    found = _reachable(Path(script))
    return {path.relative_to(PACKAGE).as_posix() for path in found if PACKAGE in path.parents}


def text_digest(*texts: str) -> str:
    """Return the SHA-256 (hex, 16 digits) of texts."""
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:16]


def _reachable(script: Path) -> set[Path]:
    found: set[Path] = set()
    queue = [script]
    while queue:
        path = queue.pop()
        if path not in found:
            found.add(path)
            queue.extend(_imported(path))
    return found


@functools.cache
def _imported(path: Path) -> tuple[Path, ...]:
    """Return the files of ``miagap`` that a file imports anywhere, lazily or not."""
    files: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            files.extend(_files_of(name))
    return tuple(files)


def _files_of(module: str) -> list[Path]:
    """Return the files that importing a dotted name runs: packages above it and itself."""
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return []
    files: list[Path] = []
    for depth in range(1, len(parts) + 1):
        base = PACKAGE.joinpath(*parts[1:depth])
        candidates = [base / "__init__.py", base.with_suffix(".py") if depth > 1 else base]
        files.extend(path for path in candidates if path.is_file())
    return files


@functools.cache
def _normalised(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return ast.unparse(tree)


def _drop_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> None:
    if node.body and isinstance(node.body[0], ast.Expr):
        value = node.body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
