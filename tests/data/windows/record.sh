#!/bin/bash
# record.sh QUERN [ASSETS] > pairs.txt
# Records what quern measures in each window of a text for real pairs of a model and its quantized self. One line per
# series: text/model QUANTITY values…, where QUANTITY is ln_ratio (nats per prediction, model over original), kld (nats
# per prediction), nll (nats per prediction, of the model) or agreement (fraction of the predictions with the same most
# likely token). Needs python3, and ASSETS for the TinyStories text.
set -eu -o pipefail
quern=$(realpath "$1") data=$(dirname "$(dirname "$(realpath "$0")")")
assets=${2:-$data/../../../shared/assets}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# record NAME ORIGINAL TEXT CONTEXT TYPE...
record() {
  local name=$1 original=$2 text=$3 context=$4
  shift 4
  for type in "$@"; do "$quern" -q quantize "$original" -t "$type" -o "$work/$type.gguf" --force; done
  "$quern" -q perplexity --reference "$original" "${@/%/.gguf}" -f "$text" -c "$context" --json="$work/report.json" >/dev/null
  python3 - "$name" "$work/report.json" <<'PYTHON'
import json, sys
for report in json.load(open(sys.argv[2]))["reports"]:
    series = report["series"]
    nll, reference = series["mean_nll_nats"], series["reference_mean_nll_nats"]
    name = sys.argv[1] + "/" + report["model"].removesuffix(".gguf")
    for quantity, values in (("ln_ratio", [a - b for a, b in zip(nll, reference)]),
                             ("kld", series["mean_kld_nats"]), ("nll", nll),
                             ("agreement", series["top1_agreement"])):
        print(name, quantity, *(f"{v:.6g}" for v in values))
PYTHON
}

cd "$work"
fixture=$data/fixture/meta-2 stories=$data/stories260K/stories260K-f32.gguf
record austen "$fixture" "$data/fixture/austen.txt" 512 q8_0 q4_k_m q4_0 q2_k
record kjv "$fixture" "$data/fixture/kjv.txt" 512 q8_0 q4_k_m q4_0 q2_k
record tinystories "$stories" "$assets/text/tinystories_valid_head_30k.txt" 256 q8_0 q5_1 q4_0
record stories260K-austen "$stories" "$data/fixture/austen.txt" 128 q8_0 q5_1 q4_0
