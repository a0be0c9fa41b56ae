#!/bin/bash
# imatrix.sh QUERN LLAMA CHECKPOINT TEXT CONTEXT PERCENT
# quern's importance matrix of CHECKPOINT over TEXT is, column by column, within PERCENT of what llama.cpp multiplies its
# matrices with; ggml reads the file, llama.cpp's quantizer works with it, and the legacy layout says the same.
. "$(dirname "$0")/common.sh"
checkpoint=$data/$1 text=$work/text context=$3 percent=$4
head -c 40k "$data/$2" >"$text"  # llama.cpp takes seconds for as much
export QUERN_LLAMA_KV=f32

"$quern" convert -q "$checkpoint" -t f32 -o "$work/model.gguf"
"$quern" imatrix -q "$work/model.gguf" --text "$text" --context "$context" -o "$work/imatrix.gguf"
"$driver" imatrix "$work/model.gguf" "$text" "$context" "$work/imatrix.gguf" | tee "$work/theirs"
awk -v percent="$percent" '/^entries/ { seen = 1; good = $2 > 0 && $4 > 0 && 100 * $6 <= percent }
  END { exit !(seen && good) }' "$work/theirs" || fail "a column differs by more than $percent %"

# The legacy layout, by way of both readers and writers: the same means.
"$quern" imatrix -q --merge "$work/imatrix.gguf" -o "$work/imatrix.dat"
"$quern" imatrix --show "$work/imatrix.gguf" >"$work/of_gguf"
"$quern" imatrix --show "$work/imatrix.dat" >"$work/of_legacy"
diff "$work/of_gguf" "$work/of_legacy" || fail "the layouts differ"

# The legacy file as llama.cpp's reader took it: entries of name, calls and sums, then calls and name of the text.
"$quern" imatrix --show "$work/imatrix.gguf" --json="$work/statistics.json" >/dev/null
python3 - "$work/imatrix.dat" "$work/statistics.json" <<'PYTHON' || fail "the legacy file says something else"
import json, struct, sys
data, at = open(sys.argv[1], "rb").read(), 0
def take(form):
    global at
    values = struct.unpack_from("<" + form, data, at)
    at += struct.calcsize("<" + form)
    return values
entries = {}
for _ in range(take("i")[0]):
    name = take(f"{take('i')[0]}s")[0].decode()
    calls, n = take("ii")
    entries[name] = [value / calls for value in take(f"{n}f")]
calls, n = take("ii")
take(f"{n}s")
expected = {tensor["name"]: tensor for tensor in json.load(open(sys.argv[2]))["tensors"]}
assert at == len(data) and calls > 0 and entries.keys() == expected.keys() and entries
for name, values in entries.items():
    for value, key in ((len(values), "columns"), (sum(values), "sum"), (max(values), "maximum"), (min(values), "minimum")):
        assert abs(value - expected[name][key]) <= 1e-5 * abs(expected[name][key]), (name, key)
print("legacy entries", len(entries), "as in the GGUF file")
PYTHON

[ "$(sed -n 's/^blk\.0\.ffn_down\.weight *\([0-9]*\).*/\1/p' "$work/of_gguf")" -gt 0 ] || fail "no statistics"
"$driver" quantize-model "$work/model.gguf" "$work/plain.gguf" q4_0 1
"$driver" quantize-model "$work/model.gguf" "$work/guided.gguf" q4_0 1 "$work/imatrix.gguf"
"$driver" load "$work/guided.gguf"
cmp -s "$work/plain.gguf" "$work/guided.gguf" && fail "llama.cpp's quantizer did not use the matrix"
kld() {
  "$quern" perplexity -q "$1" --text "$text" --context "$context" --reference "$work/model.gguf" --json |
    sed -n '/"mean_kld_nats": {/,/}/s/^ *"value": *\([-+.0-9e]*\).*/\1/p' | head -n 1
}
plain=$(kld "$work/plain.gguf") guided=$(kld "$work/guided.gguf")
echo "mean KLD of llama.cpp's q4_0: plain $plain, with quern's matrix $guided"
awk -v plain="$plain" -v guided="$guided" 'BEGIN { exit !(guided > 0 && guided < plain) }' ||
  fail "the matrix does not help llama.cpp's quantizer"
