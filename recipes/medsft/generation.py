"""Held-out answers of one arm: batched, longest prompts first, new tokens only, resumable row by row."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from medsft import model
from medsft.allocator import keep_freed_memory
from medsft.arguments import GenerateArguments
from medsft.chat_template import stop_ids
from medsft.cli import UserError
from medsft.files import read_json


class Answerer(NamedTuple):
    """A loaded arm, ready to answer."""

    network: Any
    tokenizer: Any
    base_model: str
    precision: str


def arm_base(args: GenerateArguments) -> tuple[str, str | None, Path | None]:
    """(base model, quantization, adapter or model folder) of an arm. Raises UserError where it is not trained yet."""
    folder = Path(args.study_dir) / args.arm
    if args.arm == "baseline":
        return args.model_name_or_path, None, None
    record = folder / "train.json"
    if not record.exists():
        raise UserError(f"{record}: no such file; train the arm first, or use --arm baseline")
    trained = read_json(record)
    weights = folder / "adapter" if (folder / "adapter").is_dir() else folder / "model"
    if not weights.is_dir():
        raise UserError(f"{folder} has neither adapter/ nor model/; delete {record} and train the arm again")
    return trained["base_model"], trained["quantization"], weights


def load(args: GenerateArguments) -> Answerer:
    """Load the arm as it was trained: the adapter on its base (in NF4 where it was trained so), or the full model."""
    import torch

    base, quantization, weights = arm_base(args)
    dtype = _dtype(args.dtype)
    config = model.nf4(dtype) if quantization == "nf4" else None
    if weights is not None and weights.name == "model":
        network = model.load_model(str(weights), dtype)
    else:
        network = model.load_model(base, dtype, config)
    if weights is not None and weights.name == "adapter":
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, str(weights), autocast_adapter_dtype=False).to(
            getattr(torch, dtype)
        )
    tokenizer = model.load_tokenizer(str(weights) if weights is not None else base)
    tokenizer.padding_side = "left"
    if torch.cuda.is_available() and quantization is None:
        network = network.to("cuda")
    if network.device.type == "cpu":
        keep_freed_memory()
    network.eval()
    return Answerer(network, tokenizer, base, f"{quantization} with {dtype}" if quantization else dtype)


def answers(answerer: Answerer, rows: list[dict[str, Any]], args: GenerateArguments) -> Iterator[list[dict[str, Any]]]:
    """Yield finished rows batch by batch, longest prompts first, so that running out of memory shows at once.

    `rows` need `id`, `group`, `source` and `messages`; the last message is the reference and is not shown to the model.
    """
    tokenizer = answerer.tokenizer
    encoded = [
        tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
        for row in rows
    ]
    order = sorted(range(len(rows)), key=lambda i: len(encoded[i]), reverse=True)
    for start in range(0, len(order), args.batch_size):
        batch = order[start : start + args.batch_size]
        produced = _generate(answerer, [encoded[i] for i in batch], args)
        yield [_row(rows[i], tokenizer, new_ids) for i, new_ids in zip(batch, produced, strict=True)]


def _generate(answerer: Answerer, prompts: list[list[int]], args: GenerateArguments) -> list[list[int]]:
    """The new tokens of each prompt, up to and with the first token that ends the turn."""
    import torch

    inputs = answerer.tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(answerer.network.device)
    stops = stop_ids(answerer.tokenizer)
    sampling = {"do_sample": True, "temperature": args.temperature, "top_p": args.top_p} if args.do_sample else {}
    with torch.inference_mode():
        output = answerer.network.generate(
            **inputs,
            max_new_tokens=args.max_new_tokens,
            eos_token_id=sorted(stops),
            pad_token_id=answerer.tokenizer.pad_token_id,
            **({"do_sample": False} | sampling),
        )
    return [_until_stop(row, stops) for row in output[:, inputs["input_ids"].shape[1] :].tolist()]


def _until_stop(ids: list[int], stops: set[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids) - 1)
    return ids[: end + 1]


def _row(row: dict[str, Any], tokenizer: Any, new_ids: list[int]) -> dict[str, Any]:
    *asked, answer = row["messages"]
    speakers = {"user": "Patient: ", "assistant": "Doctor: ", "system": ""}
    prompt = asked[0]["content"] if len(asked) == 1 else "\n".join(speakers[m["role"]] + m["content"] for m in asked)
    stopped = bool(new_ids) and new_ids[-1] in stop_ids(tokenizer)
    return {
        "id": row["id"],
        "group": row["group"],
        "source": row["source"],
        "prompt": prompt,
        "reference": answer["content"],
        "prediction": tokenizer.decode(new_ids, skip_special_tokens=True).strip(),
        "stopped": stopped,
        "new_tokens": len(new_ids),
    }


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add finished rows to the partial file and make sure they are on the disk."""
    with path.open("a", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        handle.flush()
        os.fsync(handle.fileno())


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of a partial file by id. A line torn by a crash is left out, so its row is answered again."""
    rows: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["id"]] = row
    # start the next line afresh: what follows a torn line would otherwise be glued to it
    if rows and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as handle:
            handle.write("\n")
    return rows


def tokens_per_second(rows: list[dict[str, Any]], started: float) -> float:
    return round(sum(row["new_tokens"] for row in rows) / max(time.monotonic() - started, 1e-9), 1)


def _dtype(asked: str) -> str:
    import torch

    from medsft.hardware import has_bf16_cpu

    if asked in ("bfloat16", "float32"):
        return asked
    if asked != "auto":
        raise UserError(f"dtype '{asked}': use auto, bfloat16 or float32")
    fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else has_bf16_cpu()
    return "bfloat16" if fast else "float32"
