#!/bin/bash
# gguf_readers.sh QUERN FOLDER
# Other parsers of GGUF read a file with an integrity trailer as they read the same file without: npm's
# @huggingface/gguf and PyPI's gguf, fetched into FOLDER; and what PyPI's tools make of such a file is told from damage.
# Each is skipped aloud where its registry does not answer; exits with 77 where both are.
set -eu -o pipefail
quern=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
data=$(dirname "$(realpath "$0")")/../data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

"$quern" -q quantize "$data/fixture/meta-2" -t q8_0 -o "$work/with.gguf"
"$quern" -q quantize "$data/fixture/meta-2" -t q8_0 --no-trailer -o "$work/without.gguf"
cmp -s "$work/with.gguf" "$work/without.gguf" && fail "both files are the same"
n_read=0

# compare NAME: what the parser made of both, without the key that announces the trailer, is the same.
compare() {
  [ "$(wc -l <"$work/$1.without")" -gt 39 ] || fail "$1 found too little"
  grep -q '^quern\.trailer ' "$work/$1.with" || fail "$1 does not show the key of the trailer"
  diff <(grep -v '^quern\.trailer ' "$work/$1.with") "$work/$1.without" || fail "$1 reads the files differently"
  echo "$1: $(wc -l <"$work/$1.without") keys and tensors, the same with and without a trailer"
  n_read=$((n_read + 1))
}

npm_version=0.4.6
fetch_npm() {
  [ -d "$folder/npm-$npm_version/node_modules/@huggingface/gguf" ] && return
  command -v node >/dev/null && command -v npm >/dev/null || return
  timeout 300 npm install --silent --no-fund --no-audit --prefix "$folder/npm-$npm_version" \
    "@huggingface/gguf@$npm_version" >/dev/null 2>&1
}
if fetch_npm; then
  cat >"$folder/npm-$npm_version/list.mjs" <<'JS'
import { gguf } from "@huggingface/gguf";
const { metadata, tensorInfos, tensorDataOffset } = await gguf(process.argv[2], { allowLocalFile: true });
const plain = (key, value) => (typeof value === "bigint" ? value.toString() : value);
for (const [key, value] of Object.entries(metadata)) {
  if (key === "kv_count") continue;
  console.log(key, JSON.stringify(value, plain));
}
for (const tensor of tensorInfos) console.log(JSON.stringify(tensor, plain));
if (!(tensorDataOffset > 0n)) throw new Error("no tensor data");
JS
  for kind in with without; do
    node "$folder/npm-$npm_version/list.mjs" "$work/$kind.gguf" >"$work/npm.$kind"
  done
  compare npm
else
  echo "skipped: @huggingface/gguf, npm does not answer" >&2
fi

pypi_version=0.17.1
fetch_pypi() {
  [ -e "$folder/pypi-$pypi_version/done" ] && return
  command -v python3 >/dev/null || return
  timeout 300 python3 -m venv "$folder/pypi-$pypi_version" >/dev/null 2>&1 &&
    timeout 300 "$folder/pypi-$pypi_version/bin/pip" install --quiet "gguf==$pypi_version" >/dev/null 2>&1 &&
    touch "$folder/pypi-$pypi_version/done"
}
if fetch_pypi; then
  for kind in with without; do
    "$folder/pypi-$pypi_version/bin/python" - "$work/$kind.gguf" >"$work/pypi.$kind" <<'PY'
import hashlib, sys
from gguf import GGUFReader
reader = GGUFReader(sys.argv[1])
for name, field in reader.fields.items():
    if name == "GGUF.kv_count":
        continue
    print(name, field.types, hashlib.sha256(repr(field.contents()).encode()).hexdigest())
for tensor in reader.tensors:
    print(tensor.name, tensor.shape, tensor.tensor_type, hashlib.sha256(tensor.data.tobytes()).hexdigest())
PY
  done
  compare pypi

  # Written anew, with and without changes: no damage, and every pass takes the file.
  bin=$folder/pypi-$pypi_version/bin
  for change in "" "--general-name other"; do
    rm -f "$work/new.gguf"
    # shellcheck disable=SC2086 # the option and its value are words
    "$bin/gguf-new-metadata" $change "$work/with.gguf" "$work/new.gguf" >/dev/null 2>&1 </dev/null
    "$quern" check "$work/new.gguf" >"$work/found" || fail "a file written anew is called damaged"
    grep -q 'trailer\.rewritten' "$work/found" || fail "nothing says that the file was written anew"
    "$quern" -q convert "$work/new.gguf" -o /dev/null || fail "a file written anew is refused"
  done
  # Edited in place: not taken for weights that were damaged, and of use to who edited it.
  "$bin/gguf-set-metadata" --force "$work/with.gguf" llama.context_length 384 >/dev/null 2>&1
  "$quern" check "$work/with.gguf" >"$work/found" && fail "an edit in place is not found"
  [ "$(grep -c '^error' "$work/found")" = 1 ] && grep -q 'trailer\.metadata' "$work/found" ||
    fail "an edit in place is not told from damage"
  code=0
  "$quern" -q convert "$work/with.gguf" -o "$work/edited.gguf" 2>/dev/null || code=$?
  [ $code = 3 ] && [ ! -e "$work/edited.gguf" ] || fail "an edit in place is taken without a word"
  "$quern" -q convert --trust-metadata "$work/with.gguf" -o "$work/edited.gguf"
  "$quern" check "$work/edited.gguf" | grep -q ': sound$' || fail "what --trust-metadata writes is not sound"
  "$quern" inspect "$work/edited.gguf" | grep -q '^context *384' || fail "--trust-metadata loses the edit"
  echo "pypi: files written anew and edited in place are told from damage"
else
  echo "skipped: PyPI's gguf, pip does not answer" >&2
fi
[ $n_read -gt 0 ] || exit 77
