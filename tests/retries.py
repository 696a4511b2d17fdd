"""Second attempts of checks that depend on timing: never silent, always counted."""

RETRIED: list[str] = []  # what was retried in this run, and why


def note_retry(what: str, why: str) -> None:
    """Print that something is retried, at once, and keep it for `summary`."""
    RETRIED.append(f"{what}: {why}")
    print(f"RETRIED ONCE: {what}: {why}", flush=True)


def summary() -> str:
    """One line for the end of a run, with every retry; it also says when there was none."""
    return f"{len(RETRIED)} retried" + "".join(f"\n  {line}" for line in RETRIED)
