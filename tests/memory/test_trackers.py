"""Bytes counted on fake tensors: by category, by memory, rounded to blocks, at the peak and after they are freed."""

import torch

from medsft.memory.trace.library_patches import fake_tensors
from medsft.memory.trace.trackers import CUDA_BLOCK, DeviceHostTracker, PlaceholderScalars, StorageTracker


def test_each_storage_is_counted_once_and_until_it_is_freed():
    tracker = StorageTracker()
    with fake_tensors(), tracker:
        kept = torch.empty(1000, dtype=torch.float32)
        view = kept[:10]
        tracker.enter("second")
        temporary = kept + 1
        del temporary, view
        tracker.enter("third")
        tracker.assign([kept, None], "weights")
        tracker.enter("fourth")
    totals = {name: sum(peak.values()) for name, peak in tracker.peaks.items()}
    assert totals == {"start": 4000, "second": 8000, "third": 4000, "fourth": 4000}
    assert tracker.peaks["third"]["activations"] == 4000 and tracker.peaks["fourth"]["weights"] == 4000


def test_requests_are_rounded_up_to_the_allocators_blocks():
    tracker = StorageTracker(CUDA_BLOCK)
    with fake_tensors(), tracker:
        kept = torch.empty(513, dtype=torch.uint8)
    assert kept.numel() == 513 and tracker.live["activations"] == 1024


def test_device_and_host_are_counted_apart():
    tracker = DeviceHostTracker()
    with fake_tensors(), tracker:
        tracker.category = "weights"
        device = torch.empty(100, dtype=torch.uint8, device="meta")
        tracker.category = "optimizer"
        host = torch.empty(100, dtype=torch.uint8, device="cpu")
        tracker.enter("later")
        tracker.assign([host, None], "gradients")
        tracker.enter("last")
    assert tracker.peaks["device"]["last"] == {"weights": CUDA_BLOCK} and device.numel() == 100
    assert tracker.peaks["host"]["later"] == {"optimizer": 100}
    assert tracker.peaks["host"]["last"] == {"optimizer": 0, "gradients": 100}


def test_pinned_blocks_are_powers_of_two_and_used_again():
    tracker = DeviceHostTracker()
    with fake_tensors(), tracker:
        tracker.pinning = True
        first = torch.empty(100, dtype=torch.uint8, device="cpu")
        assert (tracker.pinned, tracker.rounding) == (100, 28)
        del first
        assert (tracker.pinned, tracker.rounding) == (0, 128)
        second = torch.empty(120, dtype=torch.uint8, device="cpu")
        assert (tracker.pinned, tracker.rounding) == (120, 8)
        third = torch.empty(120, dtype=torch.uint8, device="cpu")
        assert (tracker.pinned, tracker.rounding) == (240, 16)
    # noted when memory grows: what is kept of a freed block counts once something is allocated beside it
    assert tracker.most_pinned == 240 and tracker.most_rounding == 28 and second.numel() == third.numel()


def test_values_that_code_asks_for_are_placeholders():
    with fake_tensors(), PlaceholderScalars(truth=False):
        assert torch.empty((), dtype=torch.long).item() == 1 and torch.empty(()).item() == 0.5
        assert not torch.empty((), dtype=torch.bool)
