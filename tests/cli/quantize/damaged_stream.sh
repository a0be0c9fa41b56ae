# A byte changed on its way through a pipe: the pass reads on to the end, and leaves no output.
quern -q convert data/fixture/meta-2 -o m.gguf
printf '\x01' | dd of=m.gguf bs=1 seek=1000000 conv=notrunc status=none
quern quantize -t q4_0 -o piped.gguf < m.gguf || code=$?
quern quantize m.gguf -t q4_0 -o out.gguf || true
ls
exit ${code-0}
