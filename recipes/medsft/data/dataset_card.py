"""The dataset card (README.md) and the Croissant 1.0 description (croissant.json) of the prepared data.

Both describe the source of the rows and what was done to them; neither holds a dialogue's words.
"""

from pathlib import Path

from medsft.data.groups.splitting import SPLITS
from medsft.data.split_files import ALSO_TEST
from medsft.files import sha256_file, write_json, write_text
from medsft.records import DataReport, Json

# Upper ends of the hub's size categories, with their names.
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
CARD = """---
{{ card_data }}
---

# Patient-doctor dialogues, prepared for supervised fine-tuning

Made by `recipes/prepare_data.py` of medsft from {{ sources }}. Not for clinical use: an answer in a corpus is no
clinical standard, and no one should act on one.

## Rows
{{ read }} rows read, {{ kept }} kept. Fingerprint of the rows: `{{ fingerprint }}`.

| split | rows | groups | tokens | of them the doctor's |
|---|---:|---:|---:|---:|
{% for name, part in splits.items() -%}
| {{ name }} | {{ part.rows }} | {{ part.groups }} | {{ tokens[name].total }} | {{ tokens[name].answer }} |
{% endfor %}
| source | read | rejected | exact copies | near copies | kept |
|---|---:|---:|---:|---:|---:|
{% for name, part in parts.items() -%}
| {{ name }} | {{ part.read }} | {{ part.rejected }} | {{ part.exact }} | {{ part.near }} | {{ part.kept }} |
{% endfor %}
## What was done
- Dropped: {{ dropped }}.
- Repaired: {{ repaired }}.
- Identifiers replaced by typed placeholders, level {{ level }}: {{ redacted }}.
  Rules do not find names without a title in running text, so these rows are still personal data.
- Languages, by letters and common words: {{ languages }}. Rules that know English only were not run on the others.
- Loss: {{ loss }}.
- System turns: {{ system_turns }}.
- Near-duplicates: the patients' opening words have a Jaccard similarity of at least {{ threshold }}.
{{ leakage }}
- Token budget {{ max_length }}: the patient's side was shortened in {{ shortened }} rows; no answer was cut.

Fields: `id` (source file and row), `source`, `group`, `messages` (role user: the patient, assistant: the doctor,
system: instructions), `prompt_tokens`, `answer_tokens`.

## Rights and risks
Corpora crawled from consultation sites are under the sites' copyright (healthcaremagic.com and icliniq.com for
MedDialog, according to its authors); a permissive license on a copy is only its redistributor's claim. Check whether
you may use or share these rows. Advice in such corpora follows local habits (drug brands, readiness to prescribe
antibiotics), and single-turn rows lack the turns before them. `../.cache` holds the rows before de-identification:
delete it before you share the study folder. `dropped.jsonl` holds the rows that were dropped, de-identified like these.
"""


def write_cards(folder: Path, report: DataReport) -> None:
    """Write README.md and croissant.json into a folder that holds the Parquet files of `report`."""
    write_text(folder / "README.md", dataset_card(report))
    write_json(folder / "croissant.json", croissant(folder, report))


def dataset_card(report: DataReport) -> str:
    """The card in the hub's format: YAML with the files of each split, then Markdown."""
    from huggingface_hub import DatasetCard, DatasetCardData

    kept = report["rows_kept"]
    data = DatasetCardData(
        task_categories=["text-generation"],
        size_categories=next((name for end, name in SIZES if kept < end), "n>1M"),
        pretty_name="Prepared patient-doctor dialogues",
        tags=["medical", "not-for-all-audiences"],
        configs=[
            {
                "config_name": "default",
                "data_files": [
                    {"split": "validation" if name == "dev" else name, "path": f"{name}.parquet"} for name in SPLITS
                ],
            }
        ],
    )
    arguments = report["arguments"]
    own = "- Split by whole groups with seed {seed}; no group is in two splits."
    study = "- Split as the source study did: {leaking} held-out rows share a group with a training row."
    card = DatasetCard.from_template(
        data,
        template_str=CARD,
        sources=", ".join(f"`{name}`" for name in report["sources"]),
        read=report["rows_read"],
        kept=kept,
        fingerprint=report["fingerprint"],
        splits=report["splits"],
        tokens=report["tokens"],
        parts=report["sources"],
        dropped=listed(report["dropped"]),
        repaired=listed(report["repaired"]),
        redacted=listed(report["redacted"]),
        threshold=arguments["near_duplicate"],
        leakage=(study if arguments["split"] == "study" else own).format(**arguments, leaking=report["leaking"]),
        max_length=arguments["max_length"],
        level=arguments.get("deid_level", "standard"),
        languages=listed(report.get("languages", {})),
        loss=loss_of(report),
        system_turns=system_turns_of(report),
        shortened=report["truncated"]["prompt"],
    )
    return str(card).rstrip() + "\n"


def loss_of(report: DataReport) -> str:
    """How often the doctor's answers of the training split carry loss, in words."""
    answers = report.get("answers", {}).get("train", {"with_loss": 0, "times": 0})
    if answers["times"] == answers["with_loss"]:
        return "each answer of the training split carries loss once"
    return f"{answers['with_loss']} answers of the training split carry loss {answers['times']} times together"


def system_turns_of(report: DataReport) -> str:
    """What was done with the instructions before the dialogues, in words."""
    found = report.get("system_turns")
    if not found or not found["rows"]:
        return "no row had one"
    done = {"keep": "kept", "merge": "put before the patient's first message", "drop": "dropped"}[found["how"]]
    return f"{done} in {found['rows']} of the rows read"


def listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()) or "nothing"


def croissant(folder: Path, report: DataReport) -> Json:
    """Croissant 1.0 with responsible-AI terms (mlcommons.org/croissant), as JSON-LD."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"{name}.parquet",
            "name": f"{name}.parquet",
            "contentUrl": f"{name}.parquet",
            "encodingFormat": "application/x-parquet",
            "sha256": sha256_file(folder / f"{name}.parquet"),
        }
        for name in [*SPLITS, *(f"{ALSO_TEST}{name}" for name in report.get("also_test", {}))]
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "prepared-patient-doctor-dialogues",
        "description": f"{report['rows_kept']} patient-doctor dialogues from {', '.join(report['sources'])}, cleaned, "
        "de-identified by rules and split by groups of near-duplicates. Not for clinical use.",
        "version": "1.0.0",
        "identifier": report["fingerprint"],
        "rai:dataCollection": "Read from the sources named; see README.md for what was dropped, repaired and replaced.",
        "rai:personalSensitiveInformation": [
            "Health questions of private persons; identifiers found by rules are replaced, others may remain."
        ],
        "rai:dataBiases": [
            f"Consultations of few sources (languages: {listed(report.get('languages', {}))}); regional brands and "
            "prescribing habits."
        ],
        "rai:dataUseCases": ["Research on fine-tuning. Not for diagnosis or advice."],
        "distribution": files,
        "recordSet": [{"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields(name)} for name in SPLITS],
    }


FIELDS = {"id": "sc:Text", "source": "sc:Text", "group": "sc:Text", "prompt_tokens": "sc:Integer"}
FIELDS |= {"answer_tokens": "sc:Integer"}


def fields(split: str) -> list[Json]:
    """The columns of one split; `messages` is a repeated field with a role and a content."""

    def column(name: str) -> Json:
        return {"source": {"fileObject": {"@id": f"{split}.parquet"}, "extract": {"column": name}}}

    plain = [
        {"@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "dataType": kind, **column(name)}
        for name, kind in FIELDS.items()
    ]
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{split}/messages/{name}",
            "name": name,
            "dataType": "sc:Text",
            "source": {**column("messages")["source"], "transform": {"jsonPath": name}},
        }
        for name in ("role", "content")
    ]
    name = f"{split}/messages"
    return [*plain, {"@type": "cr:Field", "@id": name, "name": "messages", "repeated": True, "subField": parts}]


CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
