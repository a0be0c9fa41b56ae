# shellcheck shell=bash
# Sourced by the interop tests: QUERN and LLAMA from the command line, a temporary working folder, and where the peer or
# the assets are missing, a reason and exit code 77 (skipped).
set -eu -o pipefail
quern=$(realpath "$1")
llama=$2
shift 2
source_dir=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../..
data=$source_dir/tests/data
assets=${QUERN_ASSETS:-$source_dir/../shared/assets}
driver=$llama/llama_driver

skip() { echo "skipped: $*" >&2; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

[ -x "$driver" ] || skip "llama.cpp was not fetched"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
