"""New tokens a second of transformers, llama.cpp and vLLM, all loaded in one process and asked in turn.

    PYTHONPATH=.venv/serving .venv/vllm/bin/python tests/bench/engines.py [--rounds 3] [--patients 16] [--new 64]

`make test-serving` makes both folders. Reading the prompts is included, loading is not. One engine answers at a time,
all patients at once, greedily and past the end of turn, so that each says as many tokens. On processors without bf16
instructions read the lines of float32 and of q8_0.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "recipes"), str(ROOT / "tests")]
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from medsft.arguments import GenerateArguments  # noqa: E402
from medsft.data.reading.sources import SAMPLE  # noqa: E402
from medsft.files import read_jsonl, write_json  # noqa: E402
from medsft.hardware.specs import processor_name  # noqa: E402
from medsft.inference import generation, llama_cpp, served, vllm_backend  # noqa: E402
from medsft.models import embedded, loading  # noqa: E402
from medsft.serving import gguf_file  # noqa: E402

Engine = Callable[[list[list[int]], int], list[list[int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/bench/engines.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--new", type=int, default=64, help="new tokens of each answer")
    parser.add_argument("--only", nargs="+", default=["transformers", "llama.cpp", "vllm"])
    args = parser.parse_args()
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    asked: Any = [row["patient_message"] for row in read_jsonl(SAMPLE) if isinstance(row["patient_message"], str)]
    messages = [[{"role": "user", "content": text}] for text in asked[: args.patients]]
    prompts = generation.encode(messages, tokenizer)
    found = compared(engines(args.only, tokenizer, args.patients), prompts, args.new, args.rounds)
    result = {"processor": processor_name(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    result |= {"patients": args.patients, "new_tokens": args.new, "tokens_per_second": found}
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(args.output), result)
    print(result)


def engines(kinds: list[str], tokenizer: Any, at_once: int) -> dict[str, Engine]:
    """Each engine that is asked for, loaded, by its name, version and precision."""
    loaded: dict[str, Engine] = {}
    for dtype in ("bfloat16", "float32"):
        if "transformers" in kinds:
            answerer = generation.load(GenerateArguments(dtype=dtype, engine="transformers"))
            loaded[f"transformers {answerer.version}, {dtype}"] = plain(answerer)
        if "vllm" in kinds:
            engine = vllm_backend.load(embedded.SMOLLM2, None, dtype)
            loaded[f"vLLM {vllm_backend.version()}, {dtype}"] = by_vllm(engine)
    for kind in ("f16", "q8_0", "q4_k_m") if "llama.cpp" in kinds else ():
        file = Path(tempfile.mkdtemp()) / f"{kind}.gguf"
        gguf_file.write(Path(loading.resolve(embedded.SMOLLM2)), file, tokenizer, "smollm2", kind, 2048)
        server = llama_cpp.load(file, at_once, 1024)
        loaded[f"llama.cpp (xllamacpp {server.version}), {kind}"] = by_llama_cpp(server)
    return loaded


def plain(answerer: generation.Answerer) -> Engine:
    def answer(prompts: list[list[int]], new: int) -> list[list[int]]:
        import torch

        network: Any = answerer.network
        inputs = answerer.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        fixed = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        with torch.inference_mode():
            said = network.generate(**inputs, **fixed, pad_token_id=answerer.tokenizer.pad_token_id)
        return [row[inputs["input_ids"].shape[1] :] for row in said.tolist()]

    return answer


def by_vllm(engine: vllm_backend.Engine) -> Engine:
    def answer(prompts: list[list[int]], new: int) -> list[list[int]]:
        from vllm import SamplingParams

        asked = SamplingParams(max_tokens=new, temperature=0.0, ignore_eos=True)
        rows = engine.llm.generate([{"prompt_token_ids": ids} for ids in prompts], asked, use_tqdm=False)
        return [[*row.outputs[0].token_ids] for row in rows]

    return answer


def by_llama_cpp(server: served.Engine) -> Engine:
    def answer(prompts: list[list[int]], new: int) -> list[list[int]]:
        def one(at: int) -> list[int]:
            body = {"prompt": prompts[at], "n_predict": new, "return_tokens": True, "cache_prompt": False}
            greedy = {"samplers": ["top_k"], "top_k": 1, "ignore_eos": True}
            return [*served.post(server, "/completion", body | greedy)["tokens"]]

        return served.side_by_side(server, one, len(prompts))

    return answer


def compared(engines: dict[str, Engine], prompts: list[list[int]], new: int, rounds: int) -> dict[str, Any]:
    """Median, lowest and highest new tokens a second of each engine: one after another, round by round."""
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 1):  # the first is not counted: it compiles and allocates
        for name, answer in engines.items():
            started = time.monotonic()
            said = answer(prompts, new)
            seconds = time.monotonic() - started
            if {*map(len, said)} != {new}:
                raise SystemExit(f"{name}: answers of {sorted({*map(len, said)})} tokens instead of {new}")
            if number:
                speeds[name].append(len(prompts) * new / seconds)
    return {
        name: {"median": round(statistics.median(v), 1), "low": round(min(v), 1), "high": round(max(v), 1)}
        for name, v in speeds.items()
    }


if __name__ == "__main__":
    main()
