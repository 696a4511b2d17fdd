"""The ways of training that the memory plan compares: bytes per parameter of each, and the order of recommendation."""

from dataclasses import dataclass

ADAM_8BIT = 2.03  # two 8-bit states and their block-wise scales (bitsandbytes)


@dataclass(frozen=True)
class Method:
    """Bytes per parameter of one way of full fine-tuning: (weights, gradients, optimizer) on the device, on the host.

    ZeRO-3 holds in fp32 a master copy 4, Adam's states 8, a gradient 4 (these 16 are what NVMe takes over), in bf16
    an accumulated gradient 2 and, where parameters are offloaded, the weights 2: 20 in all on the host.
    """

    device: tuple[float, float, float]
    host: tuple[float, float, float] = (0, 0, 0)
    swap: int = 0  # on disk
    zero3: bool = False  # sharded over the GPUs; layers are gathered when used, the whole model when saved
    pcie: int = 0  # moved per step without gradient accumulation
    config: str = ""  # the accelerate config, where it does not follow from the number of GPUs
    note: str = ""


METHODS = {
    "full_fp32": Method((4, 4, 8), note="fp32 weights under bf16 autocast"),
    "full": Method((2, 2, 4), note="all bf16, no fp32 master"),
    "full_8bit": Method((2, 2, ADAM_8BIT), (0, 0, ADAM_8BIT), note="bf16, optim paged_adamw_8bit"),
    "full_zero3": Method((2, 2, 12), zero3=True, config="zero3.yaml", note="fp32 master"),
    "full_zero3_optimizer_offload": Method(
        (2, 0, 0), (0, 6, 12), zero3=True, pcie=10, config="zero3_offload.yaml", note="offload_param_device none"
    ),
    "full_zero3_offload": Method(
        (0, 0, 0), (2, 6, 12), zero3=True, pcie=14, config="zero3_offload.yaml", note="fp32 master"
    ),
    "full_zero3_offload_bf16": Method(
        (0, 0, 0), (2, 4, 6), zero3=True, pcie=12, config="zero3_offload.yaml", note="bf16 master and states"
    ),
    "full_nvme": Method(
        (0, 0, 0), (2, 2, 0), swap=16, zero3=True, pcie=14, config="zero3_nvme.yaml", note="states on NVMe"
    ),
}

# By quality first, then cost: fp32 masters without offload, then adapters (close in quality at a fraction of the
# memory), then full fine-tuning by offload, then what saves memory in ways whose quality is less tested.
ORDER = {
    "full_fp32": "full fine-tuning in mixed precision fits without offload: the reference in quality",
    "full_zero3": "full fine-tuning with fp32 master weights fits when sharded over the GPUs",
    "lora": "adapters on the unquantized model: close to full fine-tuning, which fits only by offload or in bf16",
    "qlora": "adapters on the 4-bit model: adapters on the unquantized one do not fit",
    "full_zero3_optimizer_offload": "full fine-tuning with the optimizer in host memory",
    "full_zero3_offload": "full fine-tuning with parameters and optimizer in host memory",
    "full": "full fine-tuning in bf16, of which the quality is less tested",
    "full_zero3_offload_bf16": "full fine-tuning by offload in bf16, of which the quality is less tested",
    "full_8bit": "full fine-tuning with 8-bit optimizer states",
    "full_nvme": "full fine-tuning with optimizer states on NVMe, which is slow",
}
# Without a GPU `full` is in fp32: the reference, so first.
ON_CPU = {"full": Method((4, 4, 8), note="all fp32")}
ORDER_ON_CPU = {"full": "full fine-tuning in fp32 fits in host memory: the reference in quality"}
ORDER_ON_CPU |= {name: reason for name, reason in ORDER.items() if name != "full"}
