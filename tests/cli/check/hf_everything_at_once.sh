# A NaN in the weights of a folder in Hugging Face's layout; then a vocabulary that was not downloaded and a wrong number.
cp -r data/stories260K/hf m
rm m/pytorch_model.bin
printf '\x00\x00\xc0\x7f' | dd of=m/model.safetensors bs=1 seek=900000 conv=notrunc status=none
quern check m || true
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14799\n' > m/tokenizer.model
sed -i 's/"num_hidden_layers": 5/"num_hidden_layers": 6/' m/config.json
quern check m
