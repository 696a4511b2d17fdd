"""The loss over answer tokens against torch's cross entropy: value, gradients, any number of tokens."""

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from medsft.models import answer_loss


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("trained_head", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7, 600])
def test_value_and_gradients_are_those_of_cross_entropy(count: int, trained_head: bool, autocast: bool) -> None:
    torch.manual_seed(count)
    targets = torch.randint(0, 50, (count,))
    values = torch.randn(count, 16), torch.randn(50, 16)
    found = []
    for ours in (True, False):
        hidden, head = values[0].clone().requires_grad_(), values[1].clone().requires_grad_(trained_head)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if ours:
                loss = answer_loss.AnswerLoss.apply(hidden, head, targets)
            else:
                loss = cross_entropy(linear(hidden, head).float(), targets, reduction="sum")
        (loss / 3).backward()
        found.append((loss.detach(), hidden.grad, head.grad))
    tolerance = {"rtol": 0.03, "atol": 0.05} if autocast else {"rtol": 1e-5, "atol": 1e-5}
    for one, two in zip(*found, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, **tolerance)


def test_a_prepared_model_gives_the_loss_of_its_own_forward_and_generates_as_before(tiny_model) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = torch.randint(5, 1000, (3, 20))
    labels = ids.masked_fill(torch.rand(3, 20) < 0.5, -100)
    own = model(input_ids=ids, labels=labels).loss
    before = model.generate(ids[:1], max_new_tokens=4, do_sample=False)
    assert answer_loss.sum_over_answers(model)
    out = model(input_ids=ids, labels=labels, fused_lm_head=True)
    assert (out.loss / out.label_mask.sum()).item() == pytest.approx(own.item(), rel=1e-5)
    assert model(input_ids=ids, labels=labels).loss.item() == pytest.approx(own.item(), rel=1e-6)
    assert model.generate(ids[:1], max_new_tokens=4, do_sample=False).equal(before)


def test_a_scaled_head_is_left_to_trl(tiny_model) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.config.logit_scale = 0.5
    assert not answer_loss.sum_over_answers(model)
