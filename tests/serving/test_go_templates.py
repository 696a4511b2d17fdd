"""Ollama's Go templates say what the chat templates say: through jinja, and by Go itself where it is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest

from medsft.models import embedded, loading
from medsft.serving import export_formats
from medsft.tokenization import chat_template

SYSTEM = {"role": "system", "content": "Answer briefly."}
DIALOGUE = [
    {"role": "user", "content": "I have a headache."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": 'Two days, "it" hurts <b>here</b>.'},
]
# Expressions of our Go templates, and the same in jinja. One that is not here fails the test.
JINJA = {
    "range .Messages": "for m in messages",
    "range $i, $m := .Messages": "for m in messages",
    ".Role": "m.role",
    ".Content": "m.content",
    "if not .System": "if not system",
    'if eq .Role "system"': "if m.role == 'system'",
    'if eq .Role "assistant"': "if m.role == 'assistant'",
    'else if eq .Role "user"': "elif m.role == 'user'",
    "if not (and $.System (eq $i 1))": "if not (system and loop.index0 == 1)",
    "else": "else",
}
GO = """package main
import ("encoding/json"; "os"; "text/template")
type Message struct { Role, Content string }
type Values struct { System string; Messages []Message }
func main() {
	var values Values
	if err := json.Unmarshal([]byte(os.Args[2]), &values); err != nil { panic(err) }
	text, err := os.ReadFile(os.Args[1])
	if err != nil { panic(err) }
	if err := template.Must(template.New("x").Parse(string(text))).Execute(os.Stdout, values); err != nil { panic(err) }
}
"""
NAMES = sorted(path.stem for path in chat_template.FOLDER.glob("*.jinja"))


def tokenizer_with(name: str) -> Any:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    tokenizer.bos_token, tokenizer.eos_token = (
        ("<s>", "</s>") if name in ("mistral_instruct", "plain") else ("", "<|im_end|>")
    )
    source = (chat_template.FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer.chat_template = None if name == "plain" else chat_template.inference_template(source)
    return tokenizer


def expected(name: str, messages: list[dict[str, str]]) -> str:
    """What the model was trained on, less the first BOS and blanks after special tokens, which llama.cpp adds."""
    tokenizer = tokenizer_with(name)
    template = chat_template.inference_template((chat_template.FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    return re.sub(r"(^|</s>) \[INST\]", r"\1[INST]", text.removeprefix("<s>"))


def as_jinja(source: str) -> str:
    depth: list[str] = []

    def translate(match: re.Match[str]) -> str:
        left, expression, right = match.groups()
        if expression == "end":
            return f"{{%{left} end{depth.pop()} {right}%}}"
        words = JINJA[expression]
        if words.startswith(("for ", "if ")):
            depth.append(words.split()[0])
        return f"{{{{{left} {words} {right}}}}}" if words.startswith("m.") else f"{{%{left} {words} {right}%}}"

    return re.sub(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", translate, source)


@pytest.mark.parametrize("messages", [DIALOGUE, DIALOGUE[:1], [SYSTEM, *DIALOGUE]], ids=["three", "one", "system"])
@pytest.mark.parametrize("name", NAMES)
def test_go_template_says_what_the_chat_template_says(
    name: str, messages: list[dict[str, str]], tmp_path: Path
) -> None:
    source = export_formats.go_template(tokenizer_with(name), None)
    system = "\n".join(m["content"] for m in messages if m["role"] == "system")
    translated = jinja2.Environment(keep_trailing_newline=True).from_string(as_jinja(source))
    assert translated.render(messages=messages, system=system) == expected(name, messages)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed (apt-get install golang-go): not run by Go")
def test_go_itself_reads_the_templates_so(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text(GO)
    environment = {
        "GOCACHE": str(tmp_path / "cache"),
        "GO111MODULE": "off",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    subprocess.run(["go", "build", "-o", "render", "main.go"], cwd=tmp_path, env=environment, check=True)
    for name in NAMES:
        for messages in (DIALOGUE, DIALOGUE[:1], [SYSTEM, *DIALOGUE]):
            (tmp_path / "t").write_text(export_formats.go_template(tokenizer_with(name), None))
            rows = [{"Role": m["role"], "Content": m["content"]} for m in messages]
            system = "\n".join(m["content"] for m in messages if m["role"] == "system")
            values = json.dumps({"System": system, "Messages": rows})
            shown = subprocess.run(["./render", "t", values], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert shown.stdout == expected(name, messages), name


def test_an_unknown_chat_template_is_refused_with_the_remedy() -> None:
    tokenizer = tokenizer_with("chatml")
    tokenizer.chat_template = "{% for m in messages %}~{{ m.content }}~{% endfor %}"
    with pytest.raises(export_formats.UserError, match="--ollama_template FILE"):
        export_formats.go_template(tokenizer, None)


def test_the_modelfile_holds_the_system_text_of_the_training_rows(tmp_path: Path) -> None:
    written = export_formats.modelfile(tokenizer_with("chatml"), "T", 512, 64, "Answer briefly.")
    assert 'SYSTEM """Answer briefly."""' in written.splitlines()
    assert "SYSTEM" not in export_formats.modelfile(tokenizer_with("chatml"), "T", 512, 64)
    (tmp_path / "data").mkdir()
    for how, text in (("keep", "Answer briefly."), ("merge", ""), ("drop", "")):
        report = {"system_turns": {"rows": 1, "how": how, "text": "Answer briefly."}}
        (tmp_path / "data" / "data_report.json").write_text(json.dumps(report))
        assert export_formats.kept_system(tmp_path) == text


def test_quotes_that_would_end_the_modelfile_early_are_refused() -> None:
    with pytest.raises(export_formats.UserError, match="quotes"):
        export_formats.modelfile(tokenizer_with("chatml"), 'a """ b', 512, 64)
