# shellcheck shell=bash
if [ -d tests/faults ]; then
  run_step "faults" bash tests/faults/run.sh build/release/quern
else
  echo "   no tests/faults"
  count "faults" 0 0 1 0
fi
