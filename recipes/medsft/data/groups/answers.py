"""Each answer of a doctor carries loss in one row.

Corpora of consultations often have a row for each answer, with all turns before it. Every answer of the doctor in a row
carries loss, so without this the first answer of a consultation of ten would be trained on ten times.
"""

from collections.abc import Callable, Iterable

from medsft.data.groups.grouping import Row


def answers_once(
    rows: list[Row], answers: Callable[[int], list[str]], kept: Callable[[int], int]
) -> tuple[list[Row], list[Row]]:
    """The rows to train on, in the order given, and those whose last answer carries loss in a longer row.

    `answers` gives the keys of a row's answers by its position, `kept` how many of the last of them are left within
    the token budget. Long rows are taken first; where the budget removed a row's oldest turns, the row that ends with
    the newest of these is taken too.
    """
    covered: set[str] = set()
    taken: set[int] = set()
    for row in sorted(rows, key=lambda row: (-len(answers(row.position)), row.digest)):
        keys = answers(row.position)
        if keys[-1] not in covered:
            taken.add(row.position)
            covered.update(keys[-kept(row.position) :])
    return [row for row in rows if row.position in taken], [row for row in rows if row.position not in taken]


def count_answers(
    rows: Iterable[Row], answers: Callable[[int], list[str]], kept: Callable[[int], int]
) -> dict[str, int]:
    """`with_loss`: different answers that carry loss; `times`: how often they do, together.

    Groups tell apart the conversations that begin with the same words ('What brings you in today?').
    """
    carried = [(row.group, key) for row in rows for key in answers(row.position)[-kept(row.position) :]]
    return {"with_loss": len(set(carried)), "times": len(carried)}
