#!/bin/bash
# run.sh BUILD: the whole sweep, over the build in that folder; ctest runs the quick parts.
build=$(realpath "$1")
cd "$(dirname "$0")" || exit 1
shim=$build/tests/faults/libquern_fault_shim.so
failed=0
for name in calls kills space targets resume memory; do
  maker=$build/tests/converters/quern_make_checkpoint
  [ $name = memory ] && maker=$build/bench/make_checkpoint
  echo "== $name"
  ./$name.sh "$build/quern" "$shim" "$maker" sweep || failed=1
done
exit $failed
