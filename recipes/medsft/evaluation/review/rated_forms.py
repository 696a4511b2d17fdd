"""Whose forms are counted: those filled in on the page, and spreadsheets that came back, of which a copy stays here."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from medsft.errors import UserError

ON_PAGE, RETURNED = "_by_", "_returned_"


def known(folder: Path, arm: str) -> dict[str, Path]:
    """The forms in the study's review `folder`, by rater. Raises UserError where a rater has two."""
    found: dict[str, Path] = {}
    for kind in (ON_PAGE, RETURNED):
        for path in sorted(folder.glob(f"{arm}{kind}*.csv")):
            name = path.stem.removeprefix(arm + kind)
            if name in found:
                raise UserError(f"{path}: {name} has also rated on the page ({found[name].name}); rename one of them")
            found[name] = path
    return found


def with_sheets(folder: Path, arm: str, sheets: Sequence[str]) -> dict[str, Path]:
    """The known forms and those of `sheets`, which replace an earlier copy of the same name.

    A sheet that is a form of the page itself, or a copy under its name, counts once. Raises UserError where two raters
    have one name.
    """
    found = known(folder, arm)
    named = {Path(name).stem: Path(name) for name in sheets}
    if len(named) < len(sheets):
        raise UserError(f"sheets {' '.join(sheets)}: two have one name; name each form after its rater")
    on_page = {path.name for path in found.values()}
    for name, path in named.items():
        if path.name in on_page:
            continue
        if name in found and ON_PAGE in found[name].name:
            raise UserError(f"sheets: {path}: {name} has also rated on the page ({found[name]}); rename one of them")
        found[name] = path
    return found


def keep(folder: Path, arm: str, forms: Mapping[str, Path]) -> None:
    """Copy the sheets that came from elsewhere into the study's review folder: later runs count them too."""
    for name, path in forms.items():
        kept = folder / f"{arm}{RETURNED}{name}.csv"
        if path.parent.resolve() != folder.resolve():
            shutil.copyfile(path, kept)
