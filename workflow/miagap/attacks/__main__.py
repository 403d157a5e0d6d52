"""Write docs/attacks.md: ``python -m miagap.attacks``."""

from pathlib import Path

from miagap.artifacts import write_text
from miagap.attacks.registry import markdown

PAGE = Path(__file__).parents[3] / "docs" / "attacks.md"

if __name__ == "__main__":
    write_text(markdown(), PAGE)
    print(f"wrote {PAGE}")
