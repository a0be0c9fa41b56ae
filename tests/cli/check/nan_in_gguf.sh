quern -q convert --no-trailer data/fixture/meta-2 -o m.gguf
printf '\xc0\x7f' | dd of=m.gguf bs=1 seek=7000000 conv=notrunc status=none
printf '\x80\x7f' | dd of=m.gguf bs=1 seek=7300000 conv=notrunc status=none
quern check m.gguf
