# The same model in Hugging Face's layout, as safetensors and as .bin, gives the bytes of Meta's.
quern -q convert data/stories260K/meta-f32 --context 512 -o meta.gguf
quern -q convert data/stories260K/hf -o hf.gguf
cmp meta.gguf hf.gguf
cp -r data/stories260K/hf bin
rm bin/model.safetensors
quern -q convert bin | cmp - meta.gguf
