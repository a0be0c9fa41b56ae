# Metadata that a tool edited in place: refused, but told from damage of weights, and taken on request.
quern -q convert data/fixture/meta-2 --name first -o m.gguf
at=$(grep -abo first m.gguf | head -n 1 | cut -d : -f 1)
printf 'other' | dd of=m.gguf bs=1 seek="$at" conv=notrunc status=none
quern check m.gguf || true
quern convert m.gguf -o out.gguf || true
quern -q convert m.gguf --trust-metadata -o out.gguf
quern check out.gguf
quern inspect out.gguf | grep -w other
# Weights are never taken on trust.
printf '\x55' | dd of=m.gguf bs=1 seek=4000000 conv=notrunc status=none
quern convert m.gguf --trust-metadata -o worse.gguf || code=$?
ls
exit $code
