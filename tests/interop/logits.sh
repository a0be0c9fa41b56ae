#!/bin/bash
# logits.sh QUERN LLAMA CHECKPOINT TYPE TEXT CONTEXT WINDOWS
# Base-logits files of quern and of llama.cpp say the same: each reads the other's, and over the same pair of models
# (CHECKPOINT in f32, and in TYPE) both give the same statistics. llama.cpp evaluates the quantized weights as f32, since
# it would round activations beside others.
. "$(dirname "$0")/common.sh"
checkpoint=$data/$1 type=$2 text=$data/$3 context=$4 windows=$5
export QUERN_LLAMA_KV=f32

"$quern" convert -q "$checkpoint" -t f32 -o "$work/base.gguf"
"$quern" quantize -q "$checkpoint" -t "$type" -o "$work/model.gguf"
"$quern" convert -q "$work/model.gguf" -t f32 -o "$work/model-f32.gguf"
"$driver" save-logits "$work/base.gguf" "$text" "$context" "$work/theirs.logits" "$windows"
"$quern" perplexity -q "$work/base.gguf" --text "$text" -c "$context" --chunks "$windows" \
  --save-logits "$work/ours.logits" >"$work/saved"

# The same header and tokens, and of the same length.
n_head=$((20 + 4 * context * windows))
cmp <(head -c $n_head "$work/ours.logits") <(head -c $n_head "$work/theirs.logits") || fail "the headers differ"
[ "$(stat -c %s "$work/ours.logits")" = "$(stat -c %s "$work/theirs.logits")" ] || fail "the lengths differ"

"$driver" kl-divergence "$work/model-f32.gguf" "$work/ours.logits" >"$work/theirs.txt"
for file in ours theirs; do
  "$quern" perplexity -q "$work/model.gguf" --text "$text" --reference-logits "$work/$file.logits" \
    --json="$work/$file.json" >/dev/null
done
"$quern" perplexity -q "$work/model.gguf" --text "$text" -c "$context" --chunks "$windows" --reference "$work/base.gguf" \
  --json="$work/model.json" >/dev/null

python3 - "$work" <<'EOF' || fail "the statistics differ"
import json, sys
work = sys.argv[1]
theirs = {}
for line in open(work + "/theirs.txt"):
    name, *numbers = line.split()
    theirs[name] = [float(x) for x in numbers]

def statistics(path):
    report = json.load(open(path))
    r = report["reference"]
    out = {"predictions": [report["tokens"]], "perplexity": [report["perplexity"], report["stderr"]],
           "base_perplexity": [r["perplexity"]["value"], r["perplexity"]["stderr"]],
           "ln_ratio": [r["ln_perplexity_ratio"]["value"]], "rms_delta_p": [r["rms_delta_p"]["value"]],
           "same_top": [r["top1_agreement"]["value"]]}
    for name, key in (("kld", "mean_kld_nats"), ("delta_p", "delta_p")):
        out[name + "_mean"] = [r[key]["value"]]
        out[name + "_min"], out[name + "_max"] = [r[key]["minimum"]], [r[key]["maximum"]]
        for p in r[key]["percentiles"]:
            out["%s_%g" % (name, p["percent"])] = [p["value"]]
    return out

def compare(what, a, b, relative, absolute):
    worst = 0
    for name, numbers in a.items():
        for x, y in zip(numbers, b[name]):  # errors of comparisons have another unit, and are left out
            off = abs(x - y) / (relative * abs(y) + absolute)
            worst = max(worst, off)
            if off > 1:
                print("%s: %s is %.9g and %.9g" % (what, name, x, y))
    print("%s: %d statistics, the worst at %.2f of what is allowed" % (what, len(a), worst))
    return worst <= 1

ours, of_theirs, of_model = (statistics(work + "/%s.json" % n) for n in ("ours", "theirs", "model"))
assert len(ours) == 30 and ours["kld_mean"][0] > 1e-4
# Evaluations differ by f32 sums in another order; the files by 16-bit rounding of log-probabilities on top of that.
good = compare("quern and llama.cpp, quern's file", ours, theirs, 2e-4, 1e-6)
good &= compare("quern's file and llama.cpp's", ours, of_theirs, 1e-3, 1e-5)
good &= compare("quern's file and the model itself", ours, of_model, 1e-2, 1e-4)
sys.exit(not good)
EOF
