# One shard by itself is sound or not; that the rest of its checkpoint is elsewhere is no damage. convert says what is
# missing, but damage first.
cp data/fixture/meta-2/consolidated.01.pth a.pth
quern check a.pth
quern check data/fixture/meta-2/consolidated.01.pth
quern check data/stories260K/hf/pytorch_model.bin
cp data/stories260K/hf/model.safetensors .
quern check model.safetensors
printf '\xc0\x7f' | dd of=a.pth bs=1 seek=5032 conv=notrunc status=none
quern check a.pth || echo "exit code $?"
quern quantize a.pth -t q8_0 -o /dev/null 2>&1 || echo "exit code $?"
cp data/fixture/meta-2/consolidated.01.pth a.pth
quern quantize a.pth -t q8_0 -o /dev/null 2>&1 || echo "exit code $?"
