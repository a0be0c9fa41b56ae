cp -r data/fixture/meta-2 ckpt
quern quantize ckpt -t q8_0 --verify -o sound.gguf -q
echo >> ckpt/params.json
quern quantize ckpt -t q8_0 --verify -o stale.gguf
cmp sound.gguf stale.gguf
rm ckpt/consolidated.01.pth
quern quantize ckpt -t q8_0 --verify -o out.gguf
