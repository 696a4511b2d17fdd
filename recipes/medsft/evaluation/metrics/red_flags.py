"""Red flags in what a patient wrote: the words that speak most for an emergency, where the message is one."""

from medsft.evaluation.metrics.conversation import Prompt, patient_text
from medsft.evaluation.safety_instrument import classifier


def red_flags(prompt: Prompt) -> list[str]:
    """The words of an emergency that weigh most, the strongest first; [] where the message is read as none.

    Of a conversation the patient's last message counts. The reading is a trained classifier's
    (medsft.evaluation.safety_instrument); how often it is wrong is in its `instrument()`.
    """
    text = patient_text(prompt)
    return (classifier.telling_words(text) or ["emergency"]) if classifier.fires("messages", text) else []
