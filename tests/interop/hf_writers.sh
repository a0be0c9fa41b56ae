#!/bin/bash
# hf_writers.sh QUERN FOLDER safetensors|torch
# Folders whose weights PyPI's safetensors (fetched into FOLDER) or Debian's python3-torch wrote give the bytes of Meta's
# layout. Where the peer is missing: a reason, and exit code 77.
set -eu -o pipefail
quern=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
peer=$3
data=$(dirname "$(realpath "$0")")/../data/stories260K
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "skipped: $*" >&2; exit 77; }

# Debian's own: whichever comes first in PATH need not have Debian's packages.
python=/usr/bin/python3
[ -x "$python" ] || skip "there is no /usr/bin/python3"

"$quern" -q convert "$data/meta-f32" --context 512 -o "$work/f32.gguf"
"$quern" -q convert "$data/meta-f32" --context 512 -t f16 -o "$work/f16.gguf"

# compare NAME [TYPE]: the folder NAME gives the bytes of Meta's layout.
compare() {
  cp "$data/hf/config.json" "$data/hf/tokenizer.model" "$data/hf/tokenizer_config.json" "$work/$1"
  "$quern" -q convert "$work/$1" -t "${2:-source}" -o "$work/$1.gguf"
  cmp "$work/$1.gguf" "$work/${2:-f32}.gguf" || fail "$1 gives other bytes"
  echo "$1: the bytes of Meta's layout"
}

case $peer in
safetensors)
  version=0.4.5
  venv=$folder/safetensors-$version
  if [ ! -e "$venv/done" ]; then
    # Without Debian's python3-venv any other will do.
    "$python" -c 'import ensurepip' 2>/dev/null || python=$(command -v python3)
    timeout 300 "$python" -m venv "$venv" >/dev/null 2>&1 || skip "$python makes no venv"
    timeout 300 "$venv/bin/pip" install --quiet "safetensors==$version" numpy >/dev/null 2>&1 ||
      skip "PyPI's safetensors, pip does not answer"
    touch "$venv/done"
  fi
  mkdir "$work/one" "$work/shards" "$work/half"
  "$venv/bin/python" - "$data/hf/model.safetensors" "$work" <<'PY'
import json, sys
import numpy
from safetensors.numpy import load_file, save_file
weights, work = load_file(sys.argv[1]), sys.argv[2]
save_file(weights, f"{work}/one/model.safetensors", metadata={"format": "pt"})
matrices = {name: w.astype(numpy.float16) if w.ndim == 2 else w for name, w in weights.items()}
save_file(matrices, f"{work}/half/model.safetensors")
weight_map = {name: f"model-{i % 3 + 1:05d}-of-00003.safetensors" for i, name in enumerate(weights)}
for shard in set(weight_map.values()):
    save_file({n: w for n, w in weights.items() if weight_map[n] == shard}, f"{work}/shards/{shard}")
with open(f"{work}/shards/model.safetensors.index.json", "w") as index:
    json.dump({"metadata": {}, "weight_map": weight_map}, index)
PY
  compare one
  compare shards
  compare half f16
  ;;
torch)
  "$python" -c 'import torch' 2>/dev/null || skip "Debian's python3-torch is not installed"
  mkdir "$work/one" "$work/shards"
  # The weights come from another version of torch than the one that writes them here.
  "$python" - "$data/hf/pytorch_model.bin" "$work" <<'PY'
import json, sys
import torch
weights, work = torch.load(sys.argv[1]), sys.argv[2]
torch.save(weights, f"{work}/one/pytorch_model.bin")
weight_map = {name: f"pytorch_model-{i % 2 + 1:05d}-of-00002.bin" for i, name in enumerate(weights)}
for shard in set(weight_map.values()):
    torch.save({n: w for n, w in weights.items() if weight_map[n] == shard}, f"{work}/shards/{shard}")
with open(f"{work}/shards/pytorch_model.bin.index.json", "w") as index:
    json.dump({"metadata": {}, "weight_map": weight_map}, index)
PY
  compare one
  compare shards
  ;;
*) fail "no such peer: $peer" ;;
esac
