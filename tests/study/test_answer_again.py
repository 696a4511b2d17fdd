"""The line that a message tells to run answers as before: it is parsed here as generate.py parses it."""

import dataclasses
import shlex
import subprocess
from pathlib import Path

from medsft.arguments import GenerateArguments
from medsft.config import parse
from medsft.files import write_json
from medsft.study import answer_again

ASKED = {"max_rows": 800, "max_new_tokens": 384, "do_sample": True, "seeds": [1, 2], "repetition_penalty": 1.1}
ASKED |= {"likelihood_rows": 100, "model_name_or_path": "models/my mistral", "system_prompt": "Be kind.\nIt's true."}


def record(folder: Path, **settings: object) -> None:
    args = dataclasses.asdict(GenerateArguments(**settings))  # type: ignore[arg-type]
    write_json(folder / "generation.json", {"settings": args})


def parsed(line: str) -> GenerateArguments:
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout
    (found,) = parse([GenerateArguments], words.split("\0")[2:-1])
    return found


def test_the_line_asks_what_the_arm_was_asked(tmp_path: Path) -> None:
    study = tmp_path / "my study"
    record(study / "lora", study_dir="elsewhere", arm="lora", shards=4, endpoint=["http://127.0.0.1:1"], **ASKED)
    line = answer_again.command(study, "lora")
    assert "\n" not in line and line.startswith("python recipes/generate.py --study_dir ")
    assert parsed(line) == GenerateArguments(str(study), "lora", **ASKED)  # type: ignore[arg-type]
    changed = parsed(answer_again.command(study, "lora", max_rows=10, do_sample=False))
    assert (changed.max_rows, changed.do_sample, changed.max_new_tokens) == (10, False, 384)


def test_an_arm_without_answers_is_asked_as_the_baseline_was(tmp_path: Path) -> None:
    record(tmp_path / "also_test" / "kqa" / "baseline", engine="vllm", quantization="nf4", **ASKED)
    line = answer_again.command(tmp_path, "lora_q8", "kqa", engine="gguf")
    asked = {name: value for name, value in ASKED.items() if name != "model_name_or_path"}
    assert parsed(line) == GenerateArguments(str(tmp_path), "lora_q8", engine="gguf", test="kqa", **asked)  # type: ignore[arg-type]
    assert shlex.split(answer_again.command(tmp_path, "full"))[2:] == ["--study_dir", str(tmp_path), "--arm", "full"]
