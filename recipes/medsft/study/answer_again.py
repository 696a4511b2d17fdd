"""The generate.py line that answers as an arm, or the baseline, answered: what a message tells to run must not answer
more rows, or shorter, than the answers beside it."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from medsft.arguments import GenerateArguments
from medsft.files import read_json
from medsft.records import Json
from medsft.study.names import BASELINE, TEST, answers_folder

# said by the line itself, or of one launch and machine
NOT_REPEATED = ("study_dir", "arm", "test", "shard", "shards", "endpoint", "served_model", "allow_remote")
OF_THE_WEIGHTS = ("model_name_or_path", "dtype", "quantization", "merge", "engine", "tensor_parallel")


def command(study: Path, arm: str, test: str = TEST, **changed: object) -> str:
    """`python recipes/generate.py --study_dir ... --arm ...` with the options of the arm's last answers to `test`.

    Of an arm without answers those of the baseline, as far as they are not about its weights. `changed`: options that
    shall differ.
    """
    folder = answers_folder(study, test)
    own = folder / arm / "generation.json"
    record = own if own.is_file() else folder / BASELINE / "generation.json"
    settings: Json = read_json(record).get("settings", {}) if record.is_file() else {}
    settings = {name: value for name, value in settings.items() if record == own or name not in OF_THE_WEIGHTS}
    which = [] if test == TEST else ["--test", test]
    start = ["python", "recipes/generate.py", "--study_dir", str(study), "--arm", arm, *which]
    return " ".join([*map(_quoted, start), *options(settings | changed)])


def options(settings: Mapping[str, object]) -> list[str]:
    """The words for those of generate.py's options that differ from their defaults, quoted for a shell."""
    words = []
    for field in fields(GenerateArguments):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        value = settings.get(field.name, default)
        if field.name in NOT_REPEATED or value == default or value is None:
            continue
        values = value if isinstance(value, list) else [str(value).lower() if isinstance(value, bool) else value]
        words += [f"--{field.name}", *(_quoted(str(one)) for one in values)]
    return words


def _quoted(word: str) -> str:
    """For a shell, on one line: a message is one."""
    if "\n" not in word:
        return shlex.quote(word)
    return "$'" + word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
