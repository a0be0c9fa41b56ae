# shellcheck shell=bash
run_step "faults" tests/faults/run.sh build/release
