"""The tables of docs/beyond_one_machine.md: hours to answer, and what training of a 70B model fits which nodes."""

from dataclasses import replace
from pathlib import Path

from medsft.hardware.specs import Hardware, described
from medsft.memory import planner
from medsft.memory.answer_time import Work, estimate
from medsft.memory.plan_records import PlanRow
from medsft.models.parameter_counts import count_parameters, known_config
from medsft.reporting.plan.docs_plan_table import replace_between

COMMAND = "python recipes/plan_memory.py --cluster_tables docs/beyond_one_machine.md"
ANSWERS, TRAINING = f"<!-- answers: {COMMAND} -->", f"<!-- training: {COMMAND} -->"
END_OF_ANSWERS, END_OF_TRAINING = "<!-- end of answers -->", "<!-- end of training -->"
SMALL, LARGE = "mistralai/Mistral-7B-Instruct-v0.2", "meta-llama/Llama-3.1-70B-Instruct"
WORK = Work(answers=250_000, prompt=250, new=256)
GPUS, COUNTS = ("l40s", "a100-80gb", "h100"), (1, 8, 64)
WAYS = [(SMALL, 16.0, "vLLM, bf16"), (LARGE, 16.0, "vLLM, bf16"), (LARGE, 4.8, "4-bit server, 4.8 bits a weight")]
NODES, GPUS_A_NODE, HOST, DISK = (1, 2, 8), 8, "2TB", "30TB"
NODE_GPUS = ("h100", "b200")
TRAINED = ("lora", "qlora", "full_zero3", "full_zero3_offload", "full_fsdp2_offload")
BATCH, LENGTH, RANK = 1, 512, 16


def answers_table(here: Hardware) -> str:
    """A row for each model, engine and kind of GPU; hours of the clock and GPU hours by the number of GPUs."""
    heads = [f"{count} GPU{'s' if count > 1 else ''}: hours (GPU hours)" for count in COUNTS]
    first = "model | engine | GPU | GPUs a copy, batch | tokens a second and GPU"
    lines = [f"| {first} | {' | '.join(heads)} | source |", "|---|---|---|---|--:|" + "--:|" * len(heads) + "---|"]
    for name, bits, engine in WAYS:
        config = known_config(name)
        assert config is not None
        for gpu in GPUS:
            one = described(here, gpu, 1)
            found = [estimate(config, one, count, WORK, bits) for count in COUNTS]
            largest = found[-1]
            if largest is None:
                continue
            cells = [f"{each.hours:.2f} ({each.gpu_hours:.0f})" if each else "does not fit" for each in found]
            speed = largest.tokens_per_second / (largest.split * largest.copies)
            lines.append(
                f"| {name.split('/')[1]}, {count_parameters(config) / 1e9:.1f} billion weights | {engine} | {gpu} | "
                f"{largest.split}, {largest.batch} | {speed:,.0f} | {' | '.join(cells)} | calculated |"
            )
    return "\n".join(lines)


def training_table(here: Hardware) -> str:
    """A row for each strategy and kind of GPU, a column for each number of nodes."""
    config = known_config(LARGE)
    assert config is not None
    heads = [f"{nodes} node{'s' if nodes > 1 else ''}" for nodes in NODES]
    lines = ["| strategy | accelerate config on several nodes | GPU | " + " | ".join(heads) + " | source |"]
    lines.append("|---" * (4 + len(heads)) + "|")
    for gpu in NODE_GPUS:
        plans: list[dict[str, PlanRow]] = []
        for nodes in NODES:
            machines = replace(described(here, gpu, GPUS_A_NODE, HOST, DISK, nodes), cpus=64)
            rows = planner.strategies(config, machines, BATCH, LENGTH, among=TRAINED, lora_r=RANK, accumulates=True)
            plans.append({row["name"]: row for row in rows})
        for name in TRAINED:
            cells = [
                _cell(plan[name], nodes) if name in plan else "-" for plan, nodes in zip(plans, NODES, strict=True)
            ]
            lines.append(
                f"| {name} | `{plans[-1][name]['accelerate_config']}` | {gpu} | {' | '.join(cells)} | calculated |"
            )
    return "\n".join(lines)


def _cell(row: PlanRow, nodes: int) -> str:
    """Bytes, and on one node seconds a step: the plan knows nothing of the network between nodes."""
    if not row["fits"]:
        return f"no: {row['reason']}"
    device, host = sum(row["device_bytes"].values()) / 1e9, row["host_bytes"] / 1e9
    seconds = row["seconds_per_step"] if nodes == 1 else None
    return f"{device:.0f} GB a GPU, {host:.0f} GB a host" + (f", {seconds:.2g} s" if seconds else "")


def update(page: Path, here: Hardware) -> bool:
    """Write both tables between their marks of `page`; True where that changed it. Raises UserError without marks."""
    answers = replace_between(page, ANSWERS, END_OF_ANSWERS, answers_table(here))
    training = replace_between(page, TRAINING, END_OF_TRAINING, training_table(here))
    return answers or training
