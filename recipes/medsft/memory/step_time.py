"""Seconds of a training step by a roofline: the slowest of arithmetic, memory and transfers, then the host's optimizer.

Held against the published speed of ZeRO-3 offload (Llama-3.1-8B, rows of 1,024 tokens on an RTX 4090: 914, 1,373 and
1,791 tokens a second at 8, 16 and 32 rows, in https://arxiv.org/abs/2603.16428): 0.90, 1.21 and 1.49 times those
seconds. Short rows, padding and 4-bit weights are slower: the study's QLoRA run reached a fifth of an A100's peak, and
rows of 280 tokens on an H200 that two other programs used took 1.5 times what is said here.
"""

from medsft.hardware.specs import Hardware

FRACTION_OF_PEAK = 0.5  # of dense bf16 throughput that a training step reaches
CPU_FLOPS = 75e9  # per core: 150 GFLOP/s on two cores, fp32 or emulated bf16
PCIE = 25e9  # bytes per second, PCIe 4 x16 in practice; ZeRO-3 moves the next layer's weights while one computes
DISK = 3e9  # bytes per second of one NVMe drive
CPU_ADAM = 0.6e9  # parameters per second and core of DeepSpeedCPUAdam (1.17e9 measured on two cores), up to 8 cores


def seconds_per_step(
    parameters: int, trains_all: bool, tokens: int, held: int, pcie: float, swap: float, hardware: Hardware
) -> float | None:
    """One optimizer step of `tokens` per device. None where the GPU's peak is not known.

    FLOPs per token and parameter: 2 forward, 2 recomputed by checkpointing, 2 for the gradient of the activations
    and, where all weights are trained, 2 for theirs. `held` bytes on the device are read three times. `pcie` and
    `swap` are bytes per parameter moved to the host and stored on disk (read and written once each).
    """
    flops = (8 if trains_all else 6) * parameters * tokens
    if hardware.gpus == 0:
        compute = flops / (CPU_FLOPS * hardware.cpus)
    elif hardware.tflops is None or hardware.bandwidth is None:
        return None
    else:
        compute = max(flops / (FRACTION_OF_PEAK * hardware.tflops * 1e12), 3 * held / (hardware.bandwidth * 1e9))
    shards = max(1, hardware.gpus)
    transfer = pcie * parameters / PCIE / shards if hardware.gpus else 0.0
    host_step = parameters / (CPU_ADAM * min(8, hardware.cpus)) if pcie else 0.0
    return round(max(compute, transfer) + host_step + 2 * swap * parameters / DISK, 2)
