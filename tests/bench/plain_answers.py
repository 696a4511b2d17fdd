"""Answers by transformers' own `generate`, in batches of sixteen, beside which generate.py is timed (engines.py).

python tests/bench/plain_answers.py STUDY ARM ROWS NEW    # prints the new tokens a second of greedy answers
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))

AT_ONCE = 16


def main() -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from medsft.data.split_files import load_split
    from medsft.files import read_json
    from medsft.inference.decoding import until_stop
    from medsft.inference.generation import choose_dtype
    from medsft.models import loading
    from medsft.tokenization.chat_template import prompt_ids, stop_ids

    folder, rows, new = Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
    arm = folder / sys.argv[2]
    base = loading.resolve(read_json(arm / "train.json")["base_model"])
    tokenizer = loading.load_tokenizer(str(arm / "adapter"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, choose_dtype("auto")))
    model = PeftModel.from_pretrained(model, str(arm / "adapter"), autocast_adapter_dtype=False).to(model.dtype).eval()
    asked = [row["messages"][:-1] for row in load_split(str(folder), "test").select(range(rows))]
    prompts = sorted((prompt_ids(tokenizer, turns) for turns in asked), key=len)
    stops = sorted(stop_ids(tokenizer))
    tokens, started = 0, time.perf_counter()
    for at in range(0, rows, AT_ONCE):
        batch = prompts[at : at + AT_ONCE]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(one)) + one for one in batch])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch])
        said = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=new, do_sample=False, eos_token_id=stops, pad_token_id=0
        )
        tokens += sum(len(until_stop(answer, stops)) for answer in said[:, width:].tolist())
    print(tokens / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
