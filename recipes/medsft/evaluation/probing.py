"""What is measured of a loaded arm beside its answers: the likelihood of the doctors' answers, and memorization."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medsft.arguments import GenerateArguments
from medsft.evaluation import likelihood, memorization
from medsft.evaluation.likelihood import Scored
from medsft.inference import generation, part_files, served, vllm_backend
from medsft.inference.generation import Answerer
from medsft.inference.part_files import LIKELIHOOD, MEMORIZATION
from medsft.inference.shards import Shard
from medsft.records import SplitRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def probe(
    answerer: Answerer,
    rows: Sequence[SplitRow],
    train: Iterable[SplitRow],
    seen: int | None,
    args: GenerateArguments,
    folder: Path,
    digest: str,
    shard: Shard,
) -> dict[str, int]:
    """Measure likelihood and memorization into part files; returns how many rows of each all shares measure.

    The likelihood is measured by all processes, batch by batch; the few prefixes of the first `seen` training rows are
    one batch of the first process of the first share, or of a launch that answers what is missing.
    """
    scored, asked = min(args.likelihood_rows, len(rows)), args.memorization_rows
    nll: Callable[[list[Scored]], list[float]]
    if isinstance(answerer.network, vllm_backend.Engine):
        nll = partial(vllm_backend.nll, answerer.network)
    elif isinstance(answerer.network, served.Engine):
        nll = partial(served.nll, answerer.network)
        if scored and answerer.network.kind != served.VLLM:
            print(f"the likelihood of the doctors' answers is left out: {answerer.engine} does not give it")
            scored = 0
        if asked and answerer.network.kind == served.MESSAGES:
            print("memorization is left out: it takes a server that continues token ids")
            asked = 0
    else:
        network = cast("PreTrainedModel", answerer.network)
        nll = partial(likelihood.batch_nll, network, pad=answerer.tokenizer.pad_token_id)
    found: dict[str, int] = {}
    if scored:
        done, size = {*part_files.finished(folder / LIKELIHOOD, digest)}, min(args.batch_size, 4)
        shard.wait()
        likely = likelihood.likelihood(answerer.tokenizer, rows[:scored], size, nll, done, shard)
        write_part(folder / LIKELIHOOD, digest, shard, likely)
        found[LIKELIHOOD] = scored
    if asked:
        there = len(memorization.probes(answerer.tokenizer, islice(train, seen), asked))
        measured = len(part_files.finished(folder / MEMORIZATION, digest)) >= there
        if shard.is_first and shard.share == 0 and not measured:
            complete = partial(generation.complete, answerer)
            recited = memorization.memorization(answerer.tokenizer, islice(train, seen), asked, complete)
            write_part(folder / MEMORIZATION, digest, shard, recited)
        found |= {MEMORIZATION: there} if there else {}
    shard.total([0])  # until all have written
    return found


def write_part(path: Path, digest: str, shard: Shard, rows: Sequence[Mapping[str, object]]) -> None:
    part = part_files.part_file(path, digest, shard)
    part_files.end_torn_line(part)
    part_files.append(part, rows)
