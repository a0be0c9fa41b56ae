# A changed byte: named with its tensor; nothing is unpacked.
quern -q convert data/fixture/meta-2 -f qpack -o m.qpack
head -c 3000000 m.qpack > cut.qpack
printf '\x55\x55' | dd of=m.qpack bs=1 seek=2000000 conv=notrunc status=none
quern check m.qpack || true
quern unpack m.qpack -o m.gguf || true
quern quantize m.qpack -t q8_0 -o m.gguf || true
quern check cut.qpack || true
quern unpack -o cut.gguf < cut.qpack || code=$?
ls
exit $code
