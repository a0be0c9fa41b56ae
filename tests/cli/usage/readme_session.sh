# README's session is what the program says, line by line but for the seconds, and ten lines long at most.
tests=$(realpath $DATA)/..
mkdir tests && ln -s "$(realpath $DATA)" tests/data
sed -n '/^```/,/^```/{/^```/!p};/^\*\*Who/q' "$tests/../README.md" >session
without_seconds() { sed -E 's/[0-9.]+ s$/N s/'; }
sed -n 's/^\$ //p' session | while IFS= read -r command; do
  echo "\$ $command"
  bash -c "$command" 2>&1 || true
done | without_seconds >said
without_seconds <session | diff - said && [ "$(wc -l <session)" -le 10 ] && [ -s session ] && echo "README says what the program says"
