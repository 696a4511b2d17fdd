#!/usr/bin/env bash
# Collect every package of an image as a file, for a build that reads no package index (a hospital's network):
#
#   docker/wheelhouse.sh cpu wheels                              # with Python 3.11 on Linux, where there is an index
#   tar -C wheels -c . | docker import - medsft-wheelhouse       # where there is none
#   docker build --file docker/Dockerfile --target cpu --build-arg WHEELHOUSE=medsft-wheelhouse --tag medsft:cpu .
#
# PYTHON names the interpreter (default python3). Every file is checked against the hash in the lock.
set -euo pipefail
target=${1:?which image: cpu or gpu} folder=${2:?a folder for the packages}
here=$(dirname "$0")
files=("$here/requirements-build.txt" "$here/requirements-$target.txt")
download() {
  "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --dest "$folder" "${files[@]/#/--requirement=}" "$@"
}
# pip's own indexes first: they may be all there is, and asking a second one for every package takes long where it is away
download || download --extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
echo "$folder: $(find "$folder" -type f | wc -l) packages, $(du -sh "$folder" | cut -f1)"
