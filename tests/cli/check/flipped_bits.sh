# One changed byte in a tensor, one in its header: each has its own id.
quern -q quantize data/fixture/meta-2 -t q8_0 -o m.gguf
cp m.gguf t.gguf
printf '\x55' | dd of=t.gguf bs=1 seek=2000000 conv=notrunc status=none
cp m.gguf h.gguf
printf 'L' | dd of=h.gguf bs=1 seek=67 conv=notrunc status=none
quern check t.gguf || true
quern check h.gguf
