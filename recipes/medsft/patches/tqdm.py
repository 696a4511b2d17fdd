"""tqdm: progress bars that are still open."""

import sys


def close_bars() -> None:
    """End every open progress bar, so that the next line does not continue one. tqdm is not imported for it."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):  # absent until the first bar
            bar.close()
