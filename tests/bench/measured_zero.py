"""Train with DeepSpeed's real engine on the processor and print its resident memory, as one JSON line.

    python tests/bench/measured_zero.py '{"config": {...}, "optimizer": "cpu", "parameters": "cpu", ...}' FOLDER

The keys are those of `EngineConfig`; `optimizer` may be nvme too, whose files go to FOLDER. Needs the
compiled CPUAdam (`make setup`), and libaio for nvme.
"""

import json
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))
os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29600 + os.getpid() % 300)}

import torch._dynamo  # noqa: E402, F401
from transformers import AutoConfig  # noqa: E402

from medsft.hardware.malloc import keep_freed_memory  # noqa: E402
from medsft.memory.trace import zero  # noqa: E402


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    request, folder = json.loads(sys.argv[1]), sys.argv[2]
    out, sys.stdout = sys.stdout, sys.stderr
    keep_freed_memory()  # as the recipes do on processors
    import deepspeed
    from trl import SFTTrainer  # noqa: F401 - the process is measured with all that the recipes import

    deepspeed.init_distributed("gloo")
    settings = zero.engine_settings(request)
    if request["optimizer"] == "nvme":
        settings["zero_optimization"]["offload_optimizer"] = {"device": "nvme", "nvme_path": folder, "pin_memory": True}
    values = dict(request["config"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    before = resident()
    engine = zero.make_engine(config, request, settings)
    silent = SimpleNamespace(assign=lambda *_: None, enter=lambda *_: None, category="")
    zero.train(engine, request, silent)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    print(json.dumps({"before": before, "resident": peak, "disk": disk}), file=out)


if __name__ == "__main__":
    main()
