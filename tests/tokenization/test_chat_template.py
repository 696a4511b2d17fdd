"""Templates: the same tokens as the model's own, one BOS, loss on the doctor's words and the end of turn alone."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from loss_runs import supervised
from medsft.errors import UserError
from medsft.models import embedded, loading
from medsft.tokenization import chat_template
from medsft.tokenization.chat_template import FOLDER, PROBE, inference_template, render, training_template

ANSWERS = [message["content"] for message in PROBE if message["role"] == "assistant"]


@pytest.fixture(scope="module")
def smollm2() -> Any:
    return loading.load_tokenizer(embedded.SMOLLM2)


@pytest.fixture(scope="module")
def mistral_common_data() -> Path:
    """The folder that `make test` installs mistral-common into, apart from the environment it would change."""
    for folder in [Path(sys.prefix) / "test-only", ROOT / ".venv" / "test-only"]:
        if (folder / "mistral_common").is_dir():
            sys.path.insert(0, str(folder))
            return folder / "mistral_common" / "data"
    pytest.fail("mistral-common is not installed; run the tests by `make test`")


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory, mistral_common_data: Path) -> Any:
    """Mistral-7B-Instruct-v0.2's tokenizer, made from its real SentencePiece model (32,000 tokens)."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("mistral")
    shutil.copy(mistral_common_data / "tokenizer.model.v1", folder / "tokenizer.model")
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **special}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 32000
    tokenizer.chat_template = inference_template((FOLDER / "mistral_instruct.jinja").read_text())
    return tokenizer


def test_smollm2_renders_as_its_own_template_and_supervises_the_answers(smollm2: Any) -> None:
    template = training_template(smollm2)
    assert template == (FOLDER / "smollm2.jinja").read_text()
    rendered = render(smollm2, PROBE, template)
    assert rendered.input_ids == smollm2.apply_chat_template(PROBE, return_dict=True)["input_ids"]
    assert supervised(smollm2, rendered) == [answer + "<|im_end|>" for answer in ANSWERS]


def test_mistral_renders_as_mistral_common_encodes(mistral: Any) -> None:
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    kinds = {"user": UserMessage, "assistant": AssistantMessage}
    asked = [kinds[message["role"]](content=message["content"]) for message in PROBE[:3]]
    expected = MistralTokenizer.v1().encode_chat_completion(ChatCompletionRequest(messages=asked)).tokens
    template = training_template(mistral)
    assert template == (FOLDER / "mistral_instruct.jinja").read_text()
    assert render(mistral, PROBE[:3], template).input_ids == expected


def test_mistral_has_one_bos_and_supervises_answer_and_end(mistral: Any) -> None:
    rendered = render(mistral, PROBE, training_template(mistral))
    assert rendered.input_ids.count(mistral.bos_token_id) == 1
    assert rendered.input_ids[0] == mistral.bos_token_id
    assert supervised(mistral, rendered) == [f"{answer}</s>" for answer in ANSWERS]


def test_mistral_tokenizer_saved_and_loaded_encodes_the_same(mistral: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    template = training_template(mistral)
    mistral.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert render(again, PROBE, template) == render(mistral, PROBE, template)


@pytest.mark.parametrize("name", ["chatml", "smollm2"])
def test_chatml_supervises_content_and_end_of_turn(smollm2: Any, name: str) -> None:
    template = (FOLDER / f"{name}.jinja").read_text()
    assert supervised(smollm2, render(smollm2, PROBE, template)) == [answer + "<|im_end|>" for answer in ANSWERS]


def test_chatml_is_chosen_for_a_chatml_model_without_a_default_system_message(smollm2: Any) -> None:
    smollm2.chat_template = inference_template((FOLDER / "chatml.jinja").read_text())
    try:
        assert training_template(smollm2) == (FOLDER / "chatml.jinja").read_text()
    finally:
        smollm2.chat_template = inference_template((FOLDER / "smollm2.jinja").read_text())


def test_qwen3_renders_as_its_published_template_and_answers_at_once(smollm2: Any) -> None:
    """Against the copy of Qwen's template that TRL ships; its tokenizer is not here, so texts are compared."""
    import trl

    published = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    own, smollm2.chat_template = smollm2.chat_template, published
    try:
        template = training_template(smollm2)
        assert template == (FOLDER / "qwen3.jinja").read_text()
        for messages in (PROBE, PROBE[:2], [{"role": "system", "content": "Be brief."}, *PROBE]):
            texts = [
                smollm2.apply_chat_template(messages, chat_template=t, tokenize=False) for t in (published, template)
            ]
            assert texts[0] == texts[1]
        asked = smollm2.decode(chat_template.prompt_ids(smollm2, PROBE[:1]))
        assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        whole = smollm2.decode(render(smollm2, PROBE[:2], template).input_ids)
        assert whole == asked + "Since when?<|im_end|>\n"  # what is asked is how the trained text begins
        saved = chat_template.saved_template(published, smollm2, template)
        assert saved == inference_template(template)  # the published one would ask for a thought
    finally:
        smollm2.chat_template = own
    assert supervised(smollm2, render(smollm2, PROBE, template)) == [answer + "<|im_end|>" for answer in ANSWERS]


def test_a_models_own_template_is_saved_where_it_says_the_same(smollm2: Any) -> None:
    own, template = smollm2.chat_template, training_template(smollm2)
    assert chat_template.saved_template(own, smollm2, template) == own
    doubled = chat_template.with_second_bos(smollm2, template)
    assert chat_template.saved_template(own, smollm2, doubled) == inference_template(doubled)


def test_a_base_model_gets_patient_and_doctor_lines(smollm2: Any) -> None:
    own, smollm2.chat_template = smollm2.chat_template, None
    try:
        template = training_template(smollm2)
        asked = chat_template.prompt_ids(smollm2, PROBE[:1])  # of the baseline too
        assert smollm2.decode(asked) == "<|im_start|>Patient: I have a headache.\nDoctor:"
        assert chat_template.stop_ids(smollm2) == {smollm2.eos_token_id}
    finally:
        smollm2.chat_template = own
    rendered = render(smollm2, PROBE, template)
    assert supervised(smollm2, rendered) == [f" {answer}<|im_end|>" for answer in ANSWERS]
    assert "Patient: I have a headache.\nDoctor: Since when?" in smollm2.decode(rendered.input_ids)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.jinja")), ids=lambda file: file.stem)
def test_inference_template_renders_the_same_without_marks(smollm2: Any, file: Path) -> None:
    marked, plain = file.read_text(), inference_template(file.read_text())
    assert "generation %}" not in plain.replace("add_generation_prompt", "")
    texts = [smollm2.apply_chat_template(PROBE, chat_template=t, tokenize=False) for t in (marked, plain)]
    assert texts[0] == texts[1]


def test_marks_on_lines_of_their_own_leave_no_line_break(smollm2: Any) -> None:
    """transformers renders with trim_blocks: a line with nothing but a tag is no line of the text."""
    lines = ["{% for m in messages %}", "<|im_start|>{{ m['role'] }}", "{% if m['role'] == 'assistant' %}"]
    lines += ["{% generation %}", "{{ m['content'] }}<|im_end|>", "{% endgeneration %}"]
    lines += ["{% else %}", "{{ m['content'] }}<|im_end|>", "{% endif %}", "{% endfor %}"]
    template = "\n".join(lines)
    told = {"chat_template": template, "tokenize": False}
    own = smollm2.apply_chat_template(PROBE, **told)
    assert "assistant\n" in own and "\n\n" not in own
    assert smollm2.apply_chat_template(PROBE, **{**told, "chat_template": inference_template(template)}) == own


def test_a_file_without_marks_gets_them(smollm2: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(inference_template((FOLDER / "chatml.jinja").read_text()))
    rendered = render(smollm2, PROBE, training_template(smollm2, str(file)))
    assert rendered == render(smollm2, PROBE, (FOLDER / "chatml.jinja").read_text())


def test_a_mark_may_end_with_white_space_after_the_end_of_turn(smollm2: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(
        (FOLDER / "chatml.jinja").read_text().replace("'<|im_end|>' }}{%- endg", "'<|im_end|>\\n' }}{%- endg")
    )
    template = training_template(smollm2, str(file))
    assert supervised(smollm2, render(smollm2, PROBE[:2], template))[0].startswith("Since when?<|im_end|>\n")


def test_a_template_that_never_teaches_to_stop_is_refused(smollm2: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jinja"
    marked = "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}<|im_end|>{% endfor %}"
    bad.write_text(marked)
    with pytest.raises(UserError, match="would never learn to stop"):
        training_template(smollm2, str(bad))
    bad.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(UserError, match="no control token closes the assistant's turn"):
        training_template(smollm2, str(bad))
    bad.write_text("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}{% generation %}{% endgeneration %}")
    with pytest.raises(UserError, match="marks nothing"):
        training_template(smollm2, str(bad))
    turn = "{{ m['role'] }}: {% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}"
    bad.write_text(
        f"{{% for m in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}Answer: {{% endif %}}"
    )
    with pytest.raises(UserError, match="does not begin with the tokens that a prompt ends with"):
        training_template(smollm2, str(bad))
    bad.write_text("{% for m in %}")
    with pytest.raises(UserError, match="cannot be rendered"):
        training_template(smollm2, str(bad))
    with pytest.raises(UserError, match="no such file"):
        training_template(smollm2, str(tmp_path / "absent.jinja"))
