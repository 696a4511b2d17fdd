"""Options of the scripts as plain dataclasses. Nothing heavy is imported here, so `--help` is instant.

`study_dir` is the one folder that all stages of a study share: data/, plan.json, one folder per arm, report/.
"""

from dataclasses import dataclass

from medsft.options import BeyondArguments as BeyondArguments
from medsft.options import CheckSafetyArguments as CheckSafetyArguments
from medsft.options import CompareArguments as CompareArguments
from medsft.options import DoctorArguments as DoctorArguments
from medsft.options import ForgettingArguments as ForgettingArguments
from medsft.options import RepeatArguments as RepeatArguments
from medsft.options import ReviewArguments as ReviewArguments
from medsft.options import SweepArguments as SweepArguments
from medsft.options import option


@dataclass
class DataArguments:
    """Options of prepare_data.py."""

    study_dir: str = option("runs/demo", "folder of the study; the split is written to its data/")
    data: list[str] = option(
        ["sample"], "'sample' (the embedded dialogues), files, folders, globs or hub datasets, one or several"
    )
    also_test: list[str] = option([], "files of further test sets, kept apart: each is also_test_NAME, scored apart")
    weights: list[float] = option([], "share of each source in data, as many numbers; all rows of each if not given")
    columns: str | None = option(None, "other column names: patient=COLUMN,doctor=COLUMN[,context=COLUMN]")
    data_split: str = option("train", "which split of a hub dataset to train on")
    official_split: bool = option(True, "a test split that the source brings stays the test split")
    skip_rules: list[str] = option([], "cleaning and de-identification rules to leave out, by name; or all")
    system_turns: str = option(
        "auto",
        "instructions before a dialogue: keep, merge into the patient's first message, drop; auto: keep or merge",
    )
    deid_level: str = option("standard", "what de-identification replaces: basic, standard or safe_harbor")
    presidio_model: str | None = option(
        None, "spaCy model (package or folder) with which Presidio looks for full names in running text; an extra"
    )
    model_name_or_path: str = option(
        "embedded/SmolLM2-135M-Instruct", "model whose tokenizer and chat template count the tokens"
    )
    chat_template_path: str | None = option(None, "a .jinja training template of your own, with {% generation %} marks")
    max_length: int = option(512, "token budget of one dialogue; the patient's side is shortened, an answer never is")
    max_rows: int | None = option(None, "read at most this many rows, drawn by seed; all if not given")
    dev_fraction: float = option(0.1, "share of the groups held out for choosing checkpoints")
    test_fraction: float = option(0.2, "share of the groups held out for the comparison")
    near_duplicate: float = option(0.7, "Jaccard similarity of patient messages from which two rows share a group")
    max_rejected: float = option(0.2, "stop when more than this share of the rows cannot be read")
    split: str = option(
        "groups", "'groups': near-duplicates on one side; 'study': the source study's, first 12,000 rows, 85/15"
    )
    answers_once: bool = option(True, "each answer carries loss in one row; false: in all rows of its conversation")
    seed: int = option(42, "seed of the split")
    workers: int | None = option(None, "processes; as many as cores if not given")
    preview: int = option(0, "print this many rows with the tokens that carry loss marked")


@dataclass
class StudyArguments:
    """Our own options of sft_lora.py and sft_full.py; everything else is TRL's SFTConfig and ModelConfig."""

    study_dir: str = option("runs/mistral_7b", "folder of the study, as written by prepare_data.py")
    arm: str = option("lora", "name of this arm: its folder inside study_dir")
    strategy: str = option("", "how this arm is trained, by its name in the memory plan; lora or full if not given")
    max_train_rows: int | None = option(None, "train on the first this many rows of the shuffled split")
    max_dev_rows: int | None = option(None, "measure the dev loss on at most this many rows")
    data_config: str = option("data.yaml", "YAML beside the recipe that prepares the split, where there is none")
    host_reserve_gb: float = option(2.0, "host memory in GB to leave free; training is refused below it")
    host_floor_gb: float = option(0.5, "training stops with a checkpoint when less host memory in GB is left")
    bf16_states: bool = option(
        False, "ZeRO-3 offload only: master weights, gradients and moments in bfloat16: 12 instead of 20 bytes a weight"
    )
    optimizer_in_backward: bool = option(
        False, "sft_full.py on one GPU: step each weight during the backward pass, so that no gradients are held"
    )
    flash_adamw: bool = option(
        False, "sft_full.py on NVIDIA GPUs: AdamW of flashoptim, 24 bits of each bf16 weight and 8-bit moments"
    )
    offload_variant: str | None = option(
        None,
        "offload to the host only: superoffload or zenflow, which change what DeepSpeed computes",
    )
    nvme_path: str = option("runs/nvme", "NVMe offload only: folder on the fast disk for the optimizer's states")
    keep_model: bool = option(True, "sft_full.py: save the trained weights; false to only measure a few steps")
    rows_per_step: int | None = option(
        None,
        "rows of an optimizer step over all processes; gradient_accumulation_steps follows from it",
    )
    tuned: bool = option(
        False, "take the learning rate that sweep.py chose for this arm (also for ARM_seed1), where it did"
    )
    auto_speed: bool = option(
        True, "on a GPU, take a larger micro-batch and leave activation checkpointing out where that fits and is faster"
    )
    auto_batch: bool = option(False, "take the largest micro-batch that fits, at the same rows per step")
    early_stopping_patience: int | None = option(
        None, "stop after this many evaluations without a lower dev loss (with load_best_model_at_end: true); 0: do not"
    )
    generate_rows: int = option(
        0, "at each evaluation also answer this many dev rows greedily: logs rougeL, rouge1, end_of_turn and loop"
    )
    generate_tokens: int = option(128, "longest of these answers in tokens")
    choose_by: str = option(
        "", "keep the checkpoint that is best by rougeL, rouge1, end_of_turn or loop of these answers, not by dev loss"
    )
    bnb_4bit_compute_dtype: str | None = option(None, "arithmetic of 4-bit layers; that of dtype if not given")
    adapter_dtype: str = option("float32", "precision of the trained adapters, of LoRA and QLoRA alike; or bfloat16")
    end_of_turn_loss: bool = option(True, "learn where a turn ends; false only to reproduce the source study")
    truncate_answers: bool = option(False, "let max_length cut answers; true only to reproduce the source study")
    double_bos: bool = option(False, "put a second BOS before each row; true only to reproduce the source study")


@dataclass
class PlanArguments:
    """Options of plan_memory.py."""

    model_name_or_path: str = option(
        "embedded/SmolLM2-135M-Instruct", "hub id, local folder with a config.json, or an embedded model"
    )
    output_dir: str | None = option(None, "where plan.json is written; default: study_dir")
    study_dir: str = option("runs/demo", "folder of the study")
    gpu: str | None = option(
        None, "GPU name such as a100-80gb, h100, rtx4090, none; read from this machine if not given"
    )
    gpus: int | None = option(None, "number of GPUs; read from this machine if not given")
    nodes: int = option(1, "how many such machines train together")
    host: str | None = option(None, "host memory, e.g. 167GB; read from this machine if not given")
    disk: str | None = option(None, "free disk, e.g. 2TB; read from this machine if not given")
    per_device_train_batch_size: int = option(4, "rows per device and step")
    max_length: int = option(512, "tokens per row")
    lora_r: int = option(16, "rank of the adapters")
    check_only: bool = option(False, "only say whether this recipe fits; nothing is written")
    calibrate: str | None = option(
        None, "only keep this machine's corrections, from a short run's train.json or from gpu_check.json"
    )
    details: bool = option(False, "also print the bytes of every strategy by place and kind; plan.json has them too")
    as_published: bool = option(False, "also print the study's own Table 4 arithmetic")
    ladder_table: str | None = option(
        None, "rewrite the table of seven machines between the markers of this file, and do nothing else"
    )
    cluster_tables: str | None = option(
        None, "rewrite the tables of answering and training on many GPUs between the markers of this file, likewise"
    )


@dataclass
class GenerateArguments:
    """Options of generate.py."""

    study_dir: str = option("runs/demo", "folder of the study")
    arm: str = option("baseline", "which arm answers: a trained arm, or a name that starts with 'baseline'")
    model_name_or_path: str = option(
        "embedded/SmolLM2-135M-Instruct", "model of an untrained arm before any is trained; then it is theirs"
    )
    dtype: str = option(
        "auto", "precision of the weights: auto, bfloat16 or float32; auto: bfloat16 where the processor computes in it"
    )
    quantization: str = option("auto", "storage of the base: auto (as the arm was trained), none or nf4")
    merge: bool = option(False, "add the adapter into the base's weights before answering (not with nf4)")
    engine: str = option(
        "auto", "transformers, vllm, gguf (llama.cpp), or auto: vLLM where it is installed and a GPU is there, for bf16"
    )
    tensor_parallel: int = option(1, "engine vllm: GPUs that share the weights of one model, in one process")
    endpoint: list[str] = option(
        [],
        "OpenAI-compatible servers of this arm that answer instead, such as http://127.0.0.1:8000/v1; one or several",
    )
    served_model: str = option("", "the arm as the servers call it; the arm's name if not given")
    allow_remote: bool = option(False, "let the servers be other machines: the dialogues are sent there")
    test: str = option("test", "which test set: test, or the name of one that prepare_data.py --also_test made")
    shard: int = option(0, "which share of the rows this launch answers, from 0; the last to end puts all together")
    shards: int = option(1, "how many shares there are, each a launch of its own, on this machine or another")
    max_rows: int | None = option(None, "answer at most this many test rows, the first of the shuffled split")
    max_new_tokens: int = option(256, "longest answer in tokens")
    batch_size: int = option(16, "answers written at once, each way of a question counted; fewer where memory is short")
    do_sample: bool = option(False, "besides the greedy answers, sample answers once for each of the seeds")
    seeds: list[int] = option([1, 2, 3, 4, 5], "seeds of the sampled answers, with do_sample")
    repetition_penalty: float = option(1.0, "besides, decode greedily with this penalty (1.1, say); 1: do not")
    temperature: float = option(0.7, "temperature, with do_sample")
    top_p: float = option(0.9, "nucleus, with do_sample")
    system_prompt: str = option("", "instructions that the arms baseline_prompted and baseline_fewshot are given")
    examples: int = option(2, "training dialogues that the arm baseline_fewshot is shown before each question")
    examples_by: str = option("seed", "which ones: 'seed', the same for all questions; 'nearest' to each, by TF-IDF")
    likelihood_rows: int = option(0, "measure the likelihood of the doctor's answer on this many test rows; 0: do not")
    memorization_rows: int = option(0, "ask for the continuation of this many training answers; 0: do not")
    score_config: str = option(
        "score.yaml", "YAML beside the recipe: what score.py will test, kept as the analysis plan"
    )


@dataclass
class ScoreArguments:
    """Options of score.py."""

    study_dir: str = option("runs/demo", "folder of the study; every arm with a generations.jsonl is scored")
    test: str = option("test", "which test set: test, or the name of a further one, which is scored apart")
    decoding: str = option(
        "greedy", "the answers that the primary scores are of: greedy, sampled (mean over the draws), or penalised"
    )
    primary: list[str] = option(
        ["rouge1", "rouge2", "rougeL", "bertscore_f1"],
        "metrics that are tested against the baseline, declared before the run; Holm's correction is over these",
    )
    safety_margin: float = option(
        0.05, "largest drop of red-flag recall below the baseline's that the guardrail accepts, declared before the run"
    )
    margins: list[str] = option(
        ["rouge1=0.02", "rouge2=0.01", "rougeL=0.01", "bertscore_f1=0.02", "nll=0.05", "bits_per_byte=0.02"],
        "metric=number each: a loss of quality below it is called non-inferior; declared before the run",
    )
    allow_unequal: list[str] = option(
        [],
        "what compared arms may differ in (data, template, max_length, ...); others are not compared",
    )
    bert_model: str = option(
        "embedded/all-MiniLM-L6-v2", "encoder of BERTScore: hub id, local folder, or the embedded one"
    )
    bert_layer: int | None = option(
        None, "hidden layer BERTScore reads; default: the one bert_score recommends for the encoder, or its last"
    )
    bert_batch_size: int = option(16, "texts the encoder of BERTScore reads at once; small batches pad less")
    bert_dtype: str = option(
        "auto",
        "precision of that encoder: auto, bfloat16 or float32; auto: bfloat16 where the processor computes in it",
    )
    max_rows: int | None = option(None, "score the answers to at most this many test rows, the first of the split")
    resamples: int = option(10_000, "bootstrap resamples over groups")
    confidence: float = option(0.95, "level of the intervals")
    seed: int = option(42, "seed of the resampling and of the shuffled baseline")
    statements: str = option(
        "", "JSON Lines with id or question, and statements a good answer has; those of the data if not given"
    )
    judge_endpoint: str = option("", "OpenAI-compatible address of a judge of the statements; empty: read offline")
    judge_model: str = option("", "the judge's model as the endpoint calls it")
    statement_labels: str = option("", "JSON Lines of statements that physicians labelled, to measure the judge on")
    allow_remote: bool = option(False, "let the judge be another machine: questions and answers are sent there")


@dataclass
class ReportArguments:
    """Options of report.py."""

    study_dir: str = option("runs/demo", "folder of the study")
    title: str = option("Does fine-tuning make this model answer patients better?", "heading of the report")
    examples: int = option(6, "how many test rows are shown with every arm's answer, the worst first")
    hourly_rate: float | None = option(None, "what an hour of this machine costs, in any currency; prices the training")
    seed: int = option(42, "seed that draws the examples")


@dataclass
class ExportArguments:
    """Options of export.py."""

    study_dir: str = option("runs/demo", "folder of the study")
    arm: str = option("lora", "the trained arm to export")
    format: str = option("merged", "merged (whole model), adapter, ollama (whole model and Modelfile), vllm or gguf")
    dtype: str = option("bfloat16", "precision of the merged weights: bfloat16 or float32")
    quantize: str = option("f16", "how a GGUF file stores the weights: f32, f16, bf16, q8_0 or q4_k_m")
    output_dir: str | None = option(None, "where to write; default: STUDY_DIR/ARM/export/FORMAT[-QUANTIZE]")
    ollama_template: str | None = option(None, "a Go template of your own, for a chat template that is not known here")
    max_new_tokens: int = option(256, "longest answer in tokens, written to generation_config.json")
    compare_answers: int = option(
        4, "ask the merged model again for the beginnings of this many stored answers; 0: do not"
    )
    push_to_hub: str | None = option(
        None, "also upload to this hub repository (USER/NAME), private unless --public true"
    )
    public: bool = option(False, "make the hub repository public")


@dataclass
class ChatArguments:
    """Options of chat.py."""

    study_dir: str = option("runs/demo", "folder of the study; its trained arms and the baseline are loaded")
    arms: str = option(
        "", "comma-separated names of the arms, also of GGUF exports (lora_q8); all of the study if not given"
    )
    dtype: str = option("auto", "precision of the weights: auto, bfloat16 or float32")
    endpoint: list[str] = option(
        [],
        "OpenAI-compatible servers, one or several, that answer for the arms whose names they serve; then only these "
        "arms are shown if arms is not given",
    )
    allow_remote: bool = option(False, "let the servers be other machines: what you type is sent there")
    host: str = option("127.0.0.1", "address to listen on; anything but loopback needs a password")
    port: int = option(7860, "port to listen on; 0 takes a free one")
    password_file: str | None = option(None, "file whose first line is the password (user 'medsft')")
    votes: str | None = option(None, "JSON Lines file of the votes; default: STUDY_DIR/chat/votes.jsonl")
    review_only: bool = option(False, "only the blinded review of drawn answers: no model is loaded")
