"""What the patient asked: one text, or the turns of a conversation (as in TRL's `prompt` column)."""

from collections.abc import Sequence

from medsft.records import Turn

Prompt = str | Sequence[Turn]


def turns(prompt: Prompt) -> Sequence[Turn]:
    """The turns of the conversation; one text is one turn of the patient."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def patient_text(prompt: Prompt) -> str:
    """What the patient wrote last: the message that is answered. '' where the patient has not written anything.

    A chest pain of an earlier turn was answered there; counted again it would make emergencies of all later turns.
    """
    return next((turn["content"] for turn in reversed(turns(prompt)) if turn["role"] == "user"), "")
