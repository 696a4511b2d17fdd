"""SHA-256 manifests of saved folders: written last, verified before anything is read."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medsft.errors import UserError
from medsft.files import fsync, sha256_file, write_json

MANIFEST = "manifest.json"


def seal(folder: Path, but: str = MANIFEST) -> None:
    """Bring every file to the disk, then write the manifest: {file: SHA-256}. Threads hash about 1.5 GB/s a core.

    `but`: ending of files that may change later.
    """
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml says the same in the open
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((MANIFEST, but))]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fsync, files))
        sums = list(threads.map(sha256_file, files))
    write_json(folder / MANIFEST, {str(f.relative_to(folder)): s for f, s in zip(files, sums, strict=True)})


def fault(folder: Path) -> str:
    """What is wrong with a checkpoint: '' if nothing, 'unfinished' without a manifest, or the first damaged file."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "unfinished"
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        sums = threads.map(lambda name: sha256_file(folder / name) if (folder / name).is_file() else "", expected)
        return next((name for name, found in zip(expected, sums, strict=True) if found != expected[name]), "")


def verify(weights: Path) -> None:
    """Raise UserError where a file of a saved adapter or model is not as it was saved; those without manifest pass."""
    if (weights / MANIFEST).is_file() and (wrong := fault(weights)):
        raise UserError(
            f"{weights}: {MANIFEST if wrong == 'unfinished' else wrong} is damaged; restore it, or delete "
            f"{weights.parent}/train.json and {weights}, and run the arm's command again"
        )
