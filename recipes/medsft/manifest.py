"""SHA-256 manifests of saved folders: written last, verified before anything is read."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medsft.errors import UserError
from medsft.files import fsync, sha256_file, write_json

MANIFEST = "manifest.json"


def write(folder: Path, but: str = MANIFEST) -> None:
    """Flush every file to the disk, then write the manifest: {file: SHA-256}. A thread hashes about 1.5 GB/s.

    `but`: ending of files that are left out because they may change later.
    """
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml has the same settings as text
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((MANIFEST, but))]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fsync, files))
        sums = list(threads.map(sha256_file, files))
    write_json(folder / MANIFEST, {str(f.relative_to(folder)): s for f, s in zip(files, sums, strict=True)})


def problem(folder: Path) -> str:
    """What is wrong with a saved folder: '' if nothing, 'unfinished' without a manifest, or the first damaged file."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "unfinished"
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        sums = threads.map(lambda name: sha256_file(folder / name) if (folder / name).is_file() else "", expected)
        return next((name for name, found in zip(expected, sums, strict=True) if found != expected[name]), "")


def verify(weights: Path) -> None:
    """Raise UserError where a file of a saved adapter or model has changed; a folder without a manifest passes."""
    if (weights / MANIFEST).is_file() and (wrong := problem(weights)):
        raise UserError(
            f"{weights}: {MANIFEST if wrong == 'unfinished' else wrong} is damaged; restore it, or delete "
            f"{weights.parent}/train.json and {weights}, and run the arm's command again"
        )
