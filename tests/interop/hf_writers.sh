#!/bin/bash
# hf_writers.sh QUERN FOLDER
# Folders whose weights PyPI's safetensors and Debian's python3-torch wrote give the bytes of Meta's layout.
# safetensors is fetched into FOLDER; each peer is skipped aloud where it is missing; exits with 77 where both are.
set -eu -o pipefail
quern=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
data=$(dirname "$(realpath "$0")")/../data/stories260K
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "skipped: $*" >&2; exit 77; }

version=0.4.5
venv=$folder/safetensors-$version
if [ ! -e "$venv/done" ]; then
  command -v python3 >/dev/null || skip "there is no python3"
  timeout 300 python3 -m venv --system-site-packages "$venv" >/dev/null 2>&1 || skip "python3 makes no venv"
  timeout 300 "$venv/bin/pip" install --quiet "safetensors==$version" numpy >/dev/null 2>&1 ||
    skip "PyPI's safetensors, pip does not answer"
  touch "$venv/done"
fi

"$quern" -q convert "$data/meta-f32" --context 512 -o "$work/f32.gguf"
"$quern" -q convert "$data/meta-f32" --context 512 -t f16 -o "$work/f16.gguf"
n_written=0

# compare NAME [TYPE]: the folder NAME gives the bytes of Meta's layout.
compare() {
  cp "$data/hf/config.json" "$data/hf/tokenizer.model" "$data/hf/tokenizer_config.json" "$work/$1"
  "$quern" -q convert "$work/$1" --context 512 -t "${2:-source}" -o "$work/$1.gguf"
  cmp "$work/$1.gguf" "$work/${2:-f32}.gguf" || fail "$1 gives other bytes"
  echo "$1: the bytes of Meta's layout"
  n_written=$((n_written + 1))
}

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

if "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  mkdir "$work/torch" "$work/torch_shards"
  "$venv/bin/python" - "$data/hf/model.safetensors" "$work" <<'PY'
import json, sys
import torch
from safetensors.numpy import load_file
weights = {name: torch.from_numpy(w) for name, w in load_file(sys.argv[1]).items()}
work = sys.argv[2]
torch.save(weights, f"{work}/torch/pytorch_model.bin")
weight_map = {name: f"pytorch_model-{i % 2 + 1:05d}-of-00002.bin" for i, name in enumerate(weights)}
for shard in set(weight_map.values()):
    torch.save({n: w for n, w in weights.items() if weight_map[n] == shard}, f"{work}/torch_shards/{shard}")
with open(f"{work}/torch_shards/pytorch_model.bin.index.json", "w") as index:
    json.dump({"metadata": {}, "weight_map": weight_map}, index)
PY
  compare torch
  compare torch_shards
else
  echo "skipped: Debian's python3-torch is not installed" >&2
fi
[ $n_written -gt 0 ] || exit 77
