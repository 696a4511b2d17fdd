"""Export a trained arm, ready to serve: merged model, adapter, Ollama Modelfile, vLLM command or GGUF file.

    python recipes/export.py --study_dir runs/demo --arm lora --format merged
    python recipes/export.py --study_dir runs/mistral_7b --arm qlora --format ollama --dtype bfloat16
    python recipes/export.py --study_dir runs/demo --arm lora --format gguf --quantize q8_0
    python recipes/export.py --study_dir runs/demo --arm lora --format adapter --push_to_hub me/lora-demo

Writes STUDY_DIR/ARM/export/FORMAT (gguf-QUANTIZE for a GGUF file) completely or not at all, with tokenizer, chat
template, a generation_config.json that stops, a model card and export.json. An adapter is merged into a freshly loaded
base in bfloat16 or float32, and the merged model's next-token distributions are compared with the adapter's before
the folder gets its name. A GGUF file is read by llama.cpp where it is installed, and its tokens are compared too.
"""

import shutil
from pathlib import Path

from medsft.arguments import ExportArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import new_folder, read_json, write_json, write_text
from medsft.inference import generations_file
from medsft.records import Json, TrainRecord
from medsft.study import lineage
from medsft.study.names import existing_arm, existing_study, trained_arms

FORMATS = ("merged", "adapter", "ollama", "vllm", "gguf")


def main() -> None:
    (args,) = parse([ExportArguments])
    if args.format not in FORMATS:
        raise UserError(f"--format {args.format}: choose one of {', '.join(FORMATS)}")
    if args.dtype not in ("bfloat16", "float32"):
        raise UserError(f"--dtype {args.dtype}: choose bfloat16 or float32; 4-bit weights cannot take an adapter")
    study = existing_study(args.study_dir)
    known = trained_arms(study)
    if args.arm == "baseline":
        raise UserError(
            "the baseline is the untrained model: there is nothing to export; name a trained arm"
            + (f", one of {', '.join(known)}" if known else "")
        )
    arm = study / existing_arm(study, args.arm, known)
    lineage.check_trained(study, [args.arm])
    lineage.check_report(study)
    train: TrainRecord = read_json(arm / "train.json")
    weights = next((arm / name for name in ("adapter", "model") if (arm / name).is_dir()), None)
    if weights is None:
        raise UserError(f"{arm} has neither adapter/ nor model/; delete {arm}/train.json and train the arm again")
    if args.format == "adapter" and weights.name == "model":
        raise UserError(f"{args.arm} trained every weight and has no adapter; use --format merged")

    from medsft import manifest
    from medsft.models import loading
    from medsft.reporting import model_card
    from medsft.serving import export_formats, gguf_export, gguf_file, gguf_quantization, merge

    manifest.verify(weights)
    if args.format == "gguf":
        gguf_quantization.check(args.quantize)
        gguf_file.check(loading.load_config(train["base_model"]))

    tokenizer = loading.load_tokenizer(str(weights))
    template = export_formats.go_template(tokenizer, args.ollama_template) if args.format == "ollama" else ""
    default = f"gguf-{args.quantize}" if args.format == "gguf" else args.format
    folder = Path(args.output_dir) if args.output_dir else arm / "export" / default
    merging = weights.name == "adapter" and args.format != "adapter"
    dtype = args.dtype if merging else train["settings"].get("dtype", args.dtype)
    record: dict[str, object] = {"arm": args.arm, "format": args.format, "base_model": train["base_model"]}
    record |= {"dtype": dtype, "trained_on": train["fingerprint"]}
    if merging:
        merge.check_base(train["base_model"], train.get("base_revision"))
        merge.check_room(train["base_model"], folder, dtype, train["total_parameters"])
        if train.get("quantization"):
            print(f"{args.arm} was trained on 4-bit weights; its adapter is merged into the {dtype} ones")
        print(f"merging into a freshly loaded {train['base_model']} in {dtype}")
        network, before, moved = merge.merge(train["base_model"], weights, dtype)

    with new_folder(folder) as new:
        if merging:
            network.save_pretrained(new)
            del network
            export_formats.save_tokenizer(new, tokenizer)
            lost = merge.check_merge(new, before, dtype, moved)
            record |= {"divergence": lost, "moved_from_base": moved}
            record |= {"tolerance": merge.TOLERANCE[dtype], "unit": "nats per token"}
            print(
                f"checked: next-token distributions within {lost:.1e} nats per token of the adapter's on "
                f"{len(merge.PROBES)} probe dialogues (the adapter itself moved them by {moved:.2g})"
            )
            record |= compare_wording(arm, new, dtype, args.compare_answers)
        else:
            shutil.copytree(
                weights,
                new,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("*.bin", "*.pt", "*.pkl", "manifest.json"),
            )
            export_formats.save_tokenizer(new, tokenizer)
        export_formats.save_generation_config(new, tokenizer, args.max_new_tokens)
        whole = not (new / "adapter_config.json").is_file()
        write_text(new / "README.md", model_card.arm_card(arm, whole, export_formats.kept_system(study)))
        if args.format == "gguf":
            record |= gguf_export.replace_weights(new, args, tokenizer, train["total_parameters"], dtype)
        commands = export_formats.write_commands(new, folder, args, tokenizer, train, dtype, template)
        write_json(new / "export.json", {**record, "commands": commands})
    print(f"\n{folder}")
    for command in commands:
        print(f"  {command}")
    if args.push_to_hub:
        print(export_formats.push(folder, args.push_to_hub, args.public))


def compare_wording(arm: Path, new: Path, dtype: str, count: int) -> Json:
    """Say how many of the arm's stored answers the merged model begins in the same words, and return it."""
    from medsft.serving import merge

    answers = arm / "generations.jsonl"
    rows = generations_file.read_rows(answers)[:count] if answers.is_file() else []
    if not rows:
        return {}
    equal = merge.same_wording(new, dtype, rows)
    print(
        f"greedy answers may differ in wording by {dtype} rounding: {equal} of {len(rows)} stored answers begin with "
        f"the same {merge.WORDING} tokens here"
    )
    return {"same_wording": equal, "compared_answers": len(rows)}


if __name__ == "__main__":
    run(main, __doc__, ExportArguments)
