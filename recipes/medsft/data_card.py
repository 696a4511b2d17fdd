"""What stands beside the data: a dataset card (README.md) and a Croissant description (croissant.json)."""

from pathlib import Path
from typing import Any


def write_cards(folder: Path, report: dict[str, Any]) -> None:
    pass
