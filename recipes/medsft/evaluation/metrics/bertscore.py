"""BERTScore by bert_score's embedding and greedy matching (Zhang et al. 2020, eq. 1), without idf weights."""

import copy
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from medsft.errors import UserError
from medsft.evaluation.metrics.overlap import corrected_sides
from medsft.hardware.matmul_benchmark import prefers_bfloat16
from medsft.models.loading import load_config, load_tokenizer, resolve

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Vectors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

# Pairs whose token vectors are held at once: 128 texts of at most 512 x 384 floats are 100 MB.
PAIRS_AT_ONCE = 64
PAIRS_TRIED, MOST_MOVED = 24, 0.001


@dataclass(frozen=True)
class Encoder:
    """The model that gives the token vectors, and bert_score's hash of encoder, layer and versions."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    layer: int
    hash: str
    precision: str  # of its weights and products: bfloat16 or float32


def bertscore(
    encoder: Encoder, predictions: Sequence[str], references: Sequence[str], batch_size: int
) -> dict[str, list[float]]:
    """`bertscore_f1`, `bertscore_precision` and `bertscore_recall`, not rescaled.

    Text beyond the encoder's length is not read. An empty side scores 0.

    `batch_size` is the number of texts encoded at once. Pairs are matched one by one: in a padded batch bert_score
    lets a token match the padding with 0 where all its similarities are negative, so that a pair's score depends on
    its neighbours (by up to 0.006 in 48 pairs of unrelated answers).
    """
    import torch
    from bert_score.utils import greedy_cos_idf

    # An empty text makes bert_score 0.3.13 call a tokenizer method that transformers 5 no longer has.
    texts = [(encodable(r), encodable(p)) for r, p in zip(references, predictions, strict=True)]
    # Equal pairs are scored once; equal references are neighbours and encoded once.
    pairs = sorted({pair for pair in texts if all(pair)}, key=lambda pair: (len(pair[0]), pair))
    scores = dict.fromkeys(texts, (0.0, 0.0, 0.0))
    with torch.inference_mode(), tqdm(total=len(pairs), desc="BERTScore", delay=1) as bar:
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[start : start + PAIRS_AT_ONCE]
            vectors = token_vectors(encoder, {text for pair in some for text in pair}, batch_size)
            for pair in some:
                # cloned, because the function normalises what it is given in place
                sides = [part[None].clone() for text in pair for part in vectors[text]]
                scores[pair] = tuple(value.item() for value in greedy_cos_idf(*sides))
            bar.update(len(some))
    precision, recall, f1 = zip(*(scores[pair] for pair in texts), strict=True) if texts else ((), (), ())
    return {"bertscore_f1": [*f1], "bertscore_precision": [*precision], "bertscore_recall": [*recall]}


def bertscore_corrected(
    encoder: Encoder, predictions: Sequence[str], references: Sequence[str], batch_size: int
) -> dict[str, list[float]]:
    """`bertscore`, and its F1 without boilerplate (`_stripped`) and with longer answers cut (`_matched`).

    Cutting longer references too, as ROUGE's `_equal` does, would take 23 % more time of the slowest metric.
    """
    sides = {"": (predictions, references), **corrected_sides(predictions, references)}
    del sides["equal"]
    ours, theirs = ([text for pair in sides.values() for text in pair[side]] for side in (0, 1))
    scored, n = bertscore(encoder, ours, theirs, batch_size), len(predictions)
    columns = {name: values[:n] for name, values in scored.items()}
    kinds, f1 = [*sides], scored["bertscore_f1"]
    return columns | {f"bertscore_f1_{kinds[at]}": f1[at * n : (at + 1) * n] for at in range(1, len(kinds))}


def token_vectors(encoder: Encoder, texts: Iterable[str], batch_size: int) -> "dict[str, Vectors]":
    """For each text its token vectors (tokens, width), mask and weights (tokens,), without padding."""
    from bert_score.utils import get_bert_embedding

    model, tokenizer = encoder.model, encoder.tokenizer
    # every token counts 1, the first and last (CLS, SEP) nothing
    weights = defaultdict(lambda: 1.0, {tokenizer.cls_token_id: 0.0, tokenizer.sep_token_id: 0.0})
    ordered = sorted(texts, key=lambda text: (len(text), text))  # texts of one length need little padding
    vectors = {}
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        padded = get_bert_embedding(batch, model, tokenizer, weights, device=model.device)
        for text, vector, mask, weight in zip(batch, *padded, strict=True):
            size = int(mask.sum())
            vectors[text] = (vector[:size].float(), mask[:size], weight[:size])
    return vectors


def encodable(text: str) -> str:
    """The text without outer blanks; lone surrogates, which a tokenizer refuses, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def rescale(values: Sequence[float], baseline: float) -> list[float]:
    """Linear map that sends `baseline`, the score of unrelated texts, to 0 and leaves 1 (bert_score's rescaling)."""
    return [(value - baseline) / (1 - baseline) for value in values]


def in_precision(encoder: Encoder, dtype: str, predictions: Sequence[str], references: Sequence[str]) -> Encoder:
    """The encoder in bfloat16 or float32. `dtype` auto: bfloat16 where the processor computes in it, unless the F1 of
    `PAIRS_TRIED` of these pairs moves by `MOST_MOVED` or more on average.

    On two cores with AVX512-BF16 it takes half the time; 400 answers moved by 0.0006 on average, by 0.003 at most, and
    their mean by 0.0001 (embedded encoder).
    """
    if dtype == "float32" or encoder.model.device.type != "cpu" or (dtype == "auto" and not prefers_bfloat16()):
        return encoder
    half = replace(encoder, model=copy.deepcopy(encoder.model).bfloat16(), precision="bfloat16")
    if dtype == "bfloat16":
        return half
    some = predictions[:PAIRS_TRIED], references[:PAIRS_TRIED]
    whole, rounded = (bertscore(one, *some, batch_size=8)["bertscore_f1"] for one in (encoder, half))
    moved = sum(abs(a - b) for a, b in zip(whole, rounded, strict=True)) / max(1, len(whole))
    return half if moved < MOST_MOVED else encoder


def load_encoder(name: str, layer: int | None) -> Encoder:
    """Load the first `layer` layers of an encoder in float32, on the GPU if there is one.

    Without `layer`, the one that bert_score found best for the encoder (17 of roberta-large), or the last of an unknown
    encoder. bert_score's own loader is not used: it takes any path that contains "t5" for a T5 model, and reads
    pickles. Raises UserError when the encoder cannot be loaded, has no safetensors file, or has fewer layers.
    """
    import torch
    from bert_score.utils import get_hash, model2layers
    from transformers import AutoModel

    config, tokenizer = load_config(name), load_tokenizer(name)
    if layer is None:
        layer = model2layers.get(name, model2layers.get(Path(name).name, config.num_hidden_layers))
    if not 1 <= layer <= config.num_hidden_layers:
        raise UserError(f"bert_layer {layer}: {name} has the layers 1 to {config.num_hidden_layers}")
    config.num_hidden_layers = layer
    try:
        model = AutoModel.from_pretrained(resolve(name), config=config, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"bert_model {name}: {reason}; choose an encoder stored as safetensors") from error
    # Some tokenizers state no limit (1e30), which overflows when passed on; BERT-like models have 512 positions.
    positions = config.to_dict().get("max_position_embeddings", 512)
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions, 512)
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return Encoder(model, tokenizer, layer, get_hash(name, layer, False, False, False, False), "float32")
