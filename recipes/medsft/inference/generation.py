"""Answers of one arm to held-out patients: loading, batched generation, and by which engine."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from medsft import manifest
from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.files import read_json
from medsft.hardware.malloc import keep_freed_memory
from medsft.hardware.specs import processor_name
from medsft.inference import answer_memory, llama_cpp, served, shards, vllm_backend
from medsft.inference.generations_file import BASELINE, question
from medsft.inference.part_files import ANSWERS
from medsft.inference.sampling import PENALISED, Sampling, Ways
from medsft.inference.shards import Shard
from medsft.models import loading
from medsft.models.model_checks import check_answers
from medsft.records import Generation, SplitRow, Turn
from medsft.study import names
from medsft.tokenization.answer_text import answer_text
from medsft.tokenization.chat_template import prompt_ids, stop_ids
from medsft.versions import versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Answerer(NamedTuple):
    """A loaded arm, ready to answer."""

    network: "PreTrainedModel | vllm_backend.Engine | served.Engine"
    tokenizer: "PreTrainedTokenizerBase"
    base_model: str
    precision: str
    engine: str
    version: str = ""


def check(args: GenerateArguments) -> None:
    """Raise UserError for an option without meaning, before anything is loaded."""
    for name, known in (
        ("quantization", ("auto", "none", "nf4")),
        ("engine", ("auto", "transformers", "vllm", "gguf")),
    ):
        if getattr(args, name) not in known:
            raise UserError(f"{name} '{getattr(args, name)}': use {', '.join(known)}")
    for name in ("max_new_tokens", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"{name} {getattr(args, name)}: give a whole number from 1")
    shards.check(args.shard, args.shards)
    if args.repetition_penalty < 1:
        raise UserError(f"repetition_penalty {args.repetition_penalty}: give a number from 1 (none), such as 1.1")
    if args.do_sample and (args.temperature <= 0 or not 0 < args.top_p <= 1):
        raise UserError(
            f"temperature {args.temperature}, top_p {args.top_p}: give both above 0, and a top_p of at most 1"
        )
    if args.do_sample and len(set(args.seeds)) < max(1, len(args.seeds)):
        raise UserError(f"seeds {args.seeds}: a seed is listed twice; list different ones")
    if args.engine == "vllm" and not vllm_backend.installed():
        raise UserError("engine vllm: vLLM is not installed; use --engine transformers")
    if args.tensor_parallel < 1:
        raise UserError(f"tensor_parallel {args.tensor_parallel}: give a whole number from 1")
    if args.tensor_parallel > 1 and (args.engine != "vllm" or args.endpoint):
        raise UserError(f"tensor_parallel {args.tensor_parallel}: only with --engine vllm, in this process")
    if args.tensor_parallel > 1 and shards.launched():
        raise UserError(
            f"tensor_parallel {args.tensor_parallel}: each process of this launch has one GPU; start one process, "
            "without accelerate launch"
        )
    for address in args.endpoint:
        served.check_address(address, args.allow_remote)
    if args.engine == "gguf" and args.endpoint:
        raise UserError("engine gguf: answers in this process; leave it out with --endpoint, or the other way around")
    if args.engine == "gguf":
        llama_cpp.gguf_file(args)


def arm_base(args: GenerateArguments) -> tuple[str, str | None, Path | None]:
    """(base model, quantization, adapter or model folder) of an arm. Raises UserError where it is not trained yet.

    An arm whose name starts with 'baseline' is the untrained model: baseline, or baseline_nf4 with --quantization nf4.
    """
    folder = Path(args.study_dir) / llama_cpp.source_arm(args)
    chosen = None if args.quantization == "none" else "nf4"
    record = folder / "train.json"
    if args.arm.startswith(BASELINE) and not record.exists():
        return study_base(folder.parent, args.model_name_or_path), chosen if args.quantization != "auto" else None, None
    if not record.exists():
        known = ", ".join([BASELINE, *names.trained_arms(folder.parent)])
        raise UserError(f"{record}: no such file; train the arm first, or use --arm with one of {known}")
    trained = read_json(record)
    weights = next((folder / name for name in ("adapter", "model", "merged") if (folder / name).is_dir()), None)
    if weights is None:
        raise UserError(f"{folder} has neither adapter/ nor model/; delete {record} and train the arm again")
    quantization = trained["quantization"] if args.quantization == "auto" else chosen
    if args.merge and (weights.name != "adapter" or quantization):
        raise UserError(
            f"merge: {args.arm} has no adapter on an unquantized base; leave it out, or --quantization none"
        )
    return trained["base_model"], quantization, weights


def study_base(study: Path, asked: str) -> str:
    """The model that an untrained arm answers with: the one that the study's arms were trained from.

    Raises UserError where another one is `asked` for; the default of --model_name_or_path asks for none.
    """
    bases = sorted({str(read_json(study / arm / "train.json")["base_model"]) for arm in names.trained_arms(study)})
    if not bases or asked in bases:
        return asked
    if asked == GenerateArguments.model_name_or_path:
        return bases[0]
    one, other = loading.revision(asked), loading.revision(bases[0])
    if one == other != "unknown":  # the same weights by another name
        return bases[0]
    raise UserError(
        f"model_name_or_path {asked}: the arms of {study} were trained from {bases[0]}, and another model is no "
        f"baseline of theirs; use --model_name_or_path {bases[0]}, or another --study_dir"
    )


def load(args: GenerateArguments) -> Answerer:
    """Load the arm: the adapter on its base (in NF4 if it was trained in NF4), or the full model."""
    import torch

    base, quantization, weights = arm_base(args)
    if weights is not None:
        manifest.verify(weights)
    dtype = choose_dtype(args.dtype)
    tokenizer = loading.load_tokenizer(str(weights) if weights is not None else base)
    tokenizer.padding_side = "left"
    precision = f"{quantization} with {dtype}" if quantization else dtype
    if args.endpoint:
        servers = served.connect(args.endpoint, args.served_model or args.arm, tokenizer, questions_at_once(args))
        return Answerer(servers, tokenizer, base, "as served", servers.kind, servers.version)
    if args.engine == "gguf":
        file = llama_cpp.gguf_file(args)
        trained = read_json(Path(args.study_dir) / llama_cpp.source_arm(args) / "train.json")
        context = int(trained["settings"].get("max_length") or 1024) + args.max_new_tokens
        server = llama_cpp.load(file, questions_at_once(args), context)
        served.check_tokens(server, tokenizer)
        return Answerer(server, tokenizer, base, file.parent.name.removeprefix("gguf-"), "llama.cpp", server.version)
    if args.engine == "vllm" or (args.engine == "auto" and vllm_backend.available() and quantization is None):
        if quantization or args.merge:
            raise UserError("engine vllm answers unmerged, unquantized arms; use --engine transformers")
        engine = vllm_backend.load(base, weights, dtype, args.tensor_parallel)
        return Answerer(engine, tokenizer, base, precision, "vllm", vllm_backend.version())
    adapter = weights is not None and weights.name == "adapter"
    source = base if adapter or weights is None else str(weights)
    answer_memory.check_weights(loading.load_config(source), dtype, quantization)
    config = loading.nf4(dtype, double_quant(args, weights)) if quantization == "nf4" else None
    network = answer_memory.unpacked(loading.load_model(source, dtype, config))
    if adapter:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, str(weights), autocast_adapter_dtype=False).to(
            getattr(torch, dtype)
        )
        if args.merge:
            network = network.merge_and_unload()
            precision += ", merged"
    if torch.cuda.is_available() and quantization is None:
        network = network.to("cuda")
    if network.device.type == "cpu":
        keep_freed_memory()
    network.eval()
    return Answerer(network, tokenizer, base, precision, "transformers", versions()["transformers"])


def ways_of(args: GenerateArguments) -> dict[str, Sampling | None]:
    """In which ways a question is answered, by the file of the answers: greedily, by each draw, with a penalty."""
    ways: dict[str, Sampling | None] = {ANSWERS: None}
    if args.do_sample:
        ways |= {f"sampled/seed_{seed}.jsonl": Sampling(args.temperature, args.top_p, seed) for seed in args.seeds}
    if args.repetition_penalty > 1:
        ways[f"{PENALISED}.jsonl"] = Sampling(0.0, 1.0, 0, args.repetition_penalty)
    return ways


def questions_at_once(args: GenerateArguments) -> int:
    """How many questions make a batch of `batch_size` answers."""
    return max(1, args.batch_size // len(ways_of(args)))


def device_name() -> str:
    """The name of the GPU or processor that answers here, for the record."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return processor_name()


def double_quant(args: GenerateArguments, weights: Path | None) -> bool:
    """Whether the scales of NF4 are quantized too: as the arm was trained, or yes for an untrained model."""
    if weights is None:
        return True
    settings = read_json(Path(args.study_dir) / args.arm / "train.json").get("settings", {})
    return bool(settings.get("use_bnb_nested_quant", False))


def answers(
    answerer: Answerer,
    rows: Sequence[SplitRow],
    done: Collection[str | int],
    args: GenerateArguments,
    ways: Ways = (None,),
    shard: Shard = Shard(),  # noqa: B008 - it is frozen
) -> Iterator[list[list[Generation]]]:
    """Yield finished rows batch by batch, a list for each way of decoding, longest prompts first, so that running out
    of memory shows at once.

    The last message of a row is the reference, which the model does not see. Batches depend on `rows` only (and on the
    memory that is free, where that is short) and what is drawn on the question, so an interrupted run gives the same
    answers as a whole one, and so do several processes and shares. A batch whose ids are all in `done` is skipped, and
    one of another process.
    """
    encoded = encode([row["messages"][:-1] for row in rows], answerer.tokenizer)
    order = sorted(range(len(rows)), key=lambda i: len(encoded[i]), reverse=True)
    longest = len(encoded[order[0]]) if order else 0
    padded = answerer.engine == "transformers"  # the other engines fill their own batches
    size = max(1, args.batch_size // len(ways)) * vllm_backend.BATCHES_AT_ONCE
    if order and padded:
        network = cast("PreTrainedModel", answerer.network)
        check_answers(network.config, longest, args.max_new_tokens)
        asked = min(max(args.batch_size, len(ways)), len(rows) * len(ways))
        tokens, precision = (longest, args.max_new_tokens), answerer.precision
        size = answer_memory.at_once(network.config, precision, tokens, len(ways), asked, shard) // len(ways)
    elif order and isinstance(answerer.network, vllm_backend.Engine):
        vllm_backend.check_room(answerer.network, longest, args.max_new_tokens)
    if isinstance(answerer.network, served.Engine):  # each server is asked so many rows at once
        size *= len(answerer.network.addresses)
    stops = stop_ids(answerer.tokenizer)
    for batch in shards.batches(order, size, lambda i: rows[i]["id"] in done, shard, padded):
        if isinstance(answerer.network, served.Engine) and answerer.network.kind == served.MESSAGES:
            dialogues = [rows[i]["messages"][:-1] for i in batch]
            fixed = (answerer.network, dialogues, answerer.tokenizer, args.max_new_tokens, stops)
            produced = [served.complete_messages(*fixed, way) for way in ways]
        else:
            produced = complete_in(answerer, [encoded[i] for i in batch], args.max_new_tokens, ways)
        yield [
            [_row(rows[i], answerer.tokenizer, new) for i, new in zip(batch, some, strict=True)] for some in produced
        ]


def encode(conversations: Sequence[list[Turn]], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Token ids of each conversation, with the opening of the model's turn."""
    return [prompt_ids(tokenizer, asked) for asked in conversations]


def complete(
    answerer: Answerer, prompts: list[list[int]], max_new_tokens: int, sampling: Sampling | None = None
) -> list[list[int]]:
    """The new tokens of each prompt, including the one that ends the turn. Greedy without `sampling`."""
    return complete_in(answerer, prompts, max_new_tokens, [sampling])[0]


def complete_in(answerer: Answerer, prompts: list[list[int]], max_new_tokens: int, ways: Ways) -> list[list[list[int]]]:
    """The same in several ways of decoding, a list for each; transformers reads the prompts once for all of them."""
    stops = stop_ids(answerer.tokenizer)
    if isinstance(answerer.network, vllm_backend.Engine):
        return [vllm_backend.complete(answerer.network, prompts, max_new_tokens, stops, way) for way in ways]
    if isinstance(answerer.network, served.Engine):
        return [served.complete(answerer.network, prompts, max_new_tokens, stops, way) for way in ways]

    from medsft.inference.decoding import decode

    return decode(answerer.network, prompts, max_new_tokens, stops, answerer.tokenizer.pad_token_id, ways)


def _row(row: SplitRow, tokenizer: "PreTrainedTokenizerBase", new_ids: list[int]) -> Generation:
    return {
        **question(row),
        "prediction": answer_text(tokenizer, new_ids).strip(),
        "stopped": bool(new_ids) and new_ids[-1] in stop_ids(tokenizer),
        "new_tokens": len(new_ids),
    }


def choose_dtype(asked: str) -> str:
    """bfloat16 or float32, as asked; auto is bfloat16 where the processor or GPU computes in it."""
    import torch

    from medsft.hardware.matmul_benchmark import prefers_bfloat16

    if asked in ("bfloat16", "float32"):
        return asked
    if asked != "auto":
        raise UserError(f"dtype '{asked}': use auto, bfloat16 or float32")
    fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else prefers_bfloat16()
    return "bfloat16" if fast else "float32"
