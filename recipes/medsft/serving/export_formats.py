"""What a served model needs besides its weights: a generation config that stops, the chat template, a command."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import ExportArguments
from medsft.errors import UserError
from medsft.files import read_json, write_json, write_text
from medsft.hub import hub_reachable
from medsft.inference.adapter_pool import system_of
from medsft.inference.vllm_backend import lora_rank
from medsft.models import loading
from medsft.models.model_checks import positions
from medsft.records import TrainRecord
from medsft.serving import gguf_export
from medsft.tokenization import chat_template
from medsft.tokenization.system_turns import KEEP

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

GO_EOS = "@EOS@"  # stands for the tokenizer's end of sequence in our Go templates


def save_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write the tokenizer and its chat template, without the generation marks that only training libraries read."""
    template = tokenizer.chat_template or chat_template.training_template(tokenizer)
    tokenizer.chat_template = chat_template.inference_template(template)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)


def save_generation_config(folder: Path, tokenizer: "PreTrainedTokenizerBase", max_new_tokens: int) -> None:
    """Write a generation_config.json: greedy, as the study scored, and stopping at the end of a turn."""
    from transformers import GenerationConfig

    GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(chat_template.stop_ids(tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)


def go_template(tokenizer: "PreTrainedTokenizerBase", path: str | None) -> str:
    """The Go template (Ollama's language) equivalent to the tokenizer's chat template.

    It leaves out the first BOS, and the blank after a special token, because llama.cpp's tokenizer adds both. Raises
    UserError where the chat template is unknown and no `path` is given.
    """
    if path is not None:
        if not Path(path).is_file():
            raise UserError(f"--ollama_template {path}: no such file")
        return Path(path).read_text(encoding="utf-8")
    name = chat_template.known_name(tokenizer)
    if name is None:
        raise UserError(
            "Ollama needs the chat template in Go's language, and there is none here for this model; "
            "write one and pass --ollama_template FILE, or use --format vllm"
        )
    source = (chat_template.FOLDER / f"{name}.gotmpl").read_text(encoding="utf-8")
    return source.replace(GO_EOS, str(tokenizer.eos_token))


def modelfile(
    tokenizer: "PreTrainedTokenizerBase", template: str, context: int, max_new_tokens: int, system: str = ""
) -> str:
    """An Ollama Modelfile for the weights in its folder: template, system text, stops, greedy, `context` tokens."""
    if '"""' in template + system:
        raise UserError('a Go template or system text with """ in it would end the Modelfile\'s own quotes')
    stops = [tokenizer.convert_ids_to_tokens(i) for i in sorted(chat_template.stop_ids(tokenizer))]
    lines = ["FROM .", f'TEMPLATE """{template}"""', *([f'SYSTEM """{system}"""'] if system else [])]
    lines += [f"PARAMETER stop {json.dumps(stop)}" for stop in stops]
    lines += ["PARAMETER temperature 0", f"PARAMETER num_predict {max_new_tokens}", f"PARAMETER num_ctx {context}"]
    return "\n".join(lines) + "\n"


def kept_system(study: Path) -> str:
    """The system text that most training rows keep; '' where there is none, or where the patient's message holds it."""
    found = system_of(study)
    return found["text"] if found["how"] == KEEP else ""


def context_length(config: "PretrainedConfig", trained: int, max_new_tokens: int) -> int:
    """Tokens to serve: the trained length and an answer, but no more than the model has positions."""
    return min(positions(config), trained + max_new_tokens)


def vllm_line(folder: Path, name: str, dtype: str, context: int, base: str, rank: int | None) -> str:
    """The command that serves `folder` on loopback, greedily, without vLLM's telemetry: a whole model, or an adapter of
    `rank` on `base`."""
    words = ["env", "VLLM_NO_USAGE_STATS=1", "vllm", "serve", str(folder) if rank is None else base]
    words += ["--host", "127.0.0.1", "--port", "8000"]
    words += ["--dtype", dtype, "--max-model-len", str(context), "--generation-config", str(folder)]
    words += ["--override-generation-config", '{"temperature": 0}']
    if rank is None:
        return shlex.join([*words, "--served-model-name", name])
    lora = ["--enable-lora", "--lora-modules", f"{name}={folder}", "--max-lora-rank", str(rank)]
    template = ["--tokenizer", str(folder), "--chat-template", str(folder / "chat_template.jinja")]
    return shlex.join([*words, *lora, *template])


def write_commands(
    new: Path,
    folder: Path,
    args: ExportArguments,
    tokenizer: "PreTrainedTokenizerBase",
    train: TrainRecord,
    dtype: str,
    template: str,
) -> list[str]:
    """Write what the format adds (Modelfile, serve.sh, the adapter's base) and return the commands to run in `folder`.

    `new` is `folder` under its temporary name.
    """
    base = train["base_model"]
    adapter = new / "adapter_config.json"
    if adapter.is_file():  # it names a path in this machine's cache
        write_json(adapter, {**read_json(adapter), "base_model_name_or_path": base})
    config = loading.load_config(str(new) if not adapter.is_file() else base)
    context = context_length(config, int(train["settings"].get("max_length") or 1024), args.max_new_tokens)
    if args.format == "ollama":
        system = kept_system(Path(args.study_dir))
        write_text(new / "Modelfile", modelfile(tokenizer, template, context, args.max_new_tokens, system))
        return [f"cd {shlex.quote(str(folder))}", f"ollama create {args.arm} -f Modelfile", f"ollama run {args.arm}"]
    if args.format == "gguf":
        return gguf_export.commands(folder, args, context)
    rank = lora_rank(adapter) if adapter.is_file() else None
    line = vllm_line(folder.resolve(), args.arm, dtype, context, loading.resolve(base), rank)
    if args.format == "vllm":
        write_text(
            new / "serve.sh", f'#!/bin/sh\n# on this machine only; further options may follow\nexec {line} "$@"\n'
        )
    return [line]


def push(folder: Path, name: str, public: bool) -> str:
    """Upload the folder to the hub and return its address. Raises UserError where the hub refuses or is not there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if not hub_reachable():
        raise UserError(f"the hub cannot be reached; {folder} is complete, push it later with the same command")
    try:
        address = HfApi().create_repo(name, private=not public, exist_ok=True)
        HfApi().upload_folder(repo_id=name, folder_path=folder, ignore_patterns=["export.json", "serve.sh"])
        # the ignored files name folders of this machine
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--push_to_hub {name}: {reason}; run `hf auth login`; {folder} is complete") from error
    return str(address)
