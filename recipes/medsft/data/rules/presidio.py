"""Full names in running text, found by Microsoft Presidio with a spaCy model: an optional transform after the rules.

    pip install -e ".[presidio]"    and a spaCy model with an entity recogniser, as a package or a folder
    python recipes/prepare_data.py --presidio_model en_core_web_lg ...

General recognisers take drugs for persons: en_core_web_sm 3.8 does so in a third of K-QA's rows ('Zofran', 'Lexapro').
A person is therefore replaced only where a first and a last name are found together; a first name alone stays.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from medsft.data.rules.identifiers.person_names import FULL_NAME
from medsft.errors import UserError

if TYPE_CHECKING:
    from presidio_analyzer import BatchAnalyzerEngine, RecognizerResult
    from spacy.language import Language

KINDS = {"PERSON": "PERSON", "CREDIT_CARD": "RECORD", "IBAN_CODE": "RECORD"}
# Texts are cut at the end of a sentence, else between words: spaCy takes about 1 GB for 100,000 characters.
PIECE = re.compile(r".{1,10000}(?:[.!?]\s|\n|\Z)|.{1,10000}\s|.{1,10000}", re.DOTALL)
UNUSED = ["parser", "tagger", "morphologizer", "attribute_ruler", "lemmatizer", "senter"]


@lru_cache(maxsize=1)
def analyzer(model: str) -> "BatchAnalyzerEngine":
    """Presidio's engine for batches. Raises UserError where it or the spaCy model is not installed."""
    try:
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import CreditCardRecognizer, IbanRecognizer, SpacyRecognizer
    except ImportError as error:
        raise UserError('presidio_model: Presidio is not installed; pip install -e ".[presidio]"') from error

    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    engine = SpacyNlpEngine()
    # loaded here, because Presidio would download a model that is not installed
    engine.nlp = {"en": spacy_model(model)}  # type: ignore[assignment]
    recognizers = [SpacyRecognizer(supported_entities=["PERSON"]), CreditCardRecognizer(), IbanRecognizer()]
    registry = RecognizerRegistry(recognizers, supported_languages=["en"])
    return BatchAnalyzerEngine(AnalyzerEngine(registry, engine, supported_languages=["en"]))


def spacy_model(name: str) -> "Language":
    """The pipeline with only the components that find names. Raises UserError where it has none."""
    import spacy

    try:
        pipeline = spacy.load(name, exclude=UNUSED)
    except (OSError, ValueError) as error:
        raise UserError(
            f"presidio_model: no spaCy model '{name}'; give the name of an installed package, or a folder"
        ) from error
    if not {"ner", "entity_ruler", "span_ruler", "transformer"} & {*pipeline.pipe_names}:
        raise UserError(f"presidio_model: '{name}' recognises no entities; it has {', '.join(pipeline.pipe_names)}")
    return pipeline


def version(model: str) -> str:
    """Presidio's version, and the language, name, version and labels of the model: what the outcome depends on."""
    from importlib.metadata import version

    meta = analyzer(model).analyzer_engine.nlp_engine.nlp["en"].meta  # type: ignore[union-attr]
    return f"{version('presidio-analyzer')} {meta['lang']}_{meta['name']} {meta['version']} {meta['labels']}"


def redact(texts: Sequence[str], model: str) -> Iterator[tuple[str, Counter[str]]]:
    """Each text with placeholders, and how many of each kind were put in, in order."""
    pieces = [PIECE.findall(text) for text in texts]
    flat = [piece for parts in pieces for piece in parts]
    found = analyzer(model).analyze_iterator(flat, language="en", batch_size=64, entities=[*KINDS], score_threshold=0.5)
    replaced = (_replaced(piece, results) for piece, results in zip(flat, found, strict=True))
    for parts in pieces:
        counts: Counter[str] = Counter()
        text = ""
        for _ in parts:
            piece, kinds = next(replaced)
            text += piece
            counts += kinds
        yield text, counts


def _replaced(text: str, results: "Sequence[RecognizerResult]") -> tuple[str, Counter[str]]:
    counts: Counter[str] = Counter()
    end = len(text)
    for result in sorted(results, key=lambda result: (result.start, result.end), reverse=True):
        words = text[result.start : result.end]
        if result.end > end or result.entity_type == "PERSON" and not re.fullmatch(FULL_NAME, words):
            continue
        kind, end = KINDS[result.entity_type], result.start
        text = f"{text[: result.start]}[{kind}]{text[result.end :]}"
        counts[kind] += 1
    return text, counts
