# In one pass, through a pipe, with little memory, from one file: the same bytes as from Meta's layout.
quern -q quantize data/stories260K/meta-f32 --context 512 -t q8_0 -o meta.gguf
quern -q quantize data/stories260K/hf -t q8_0 -o hf.gguf
cmp meta.gguf hf.gguf
quern -q convert data/stories260K/hf | quern -q quantize -t q8_0 | cmp - meta.gguf
quern -q quantize data/stories260K/hf -t q8_0 --memory 64M --threads 1 | cmp - meta.gguf
quern -q quantize data/stories260K/hf/model.safetensors -t q8_0 | cmp - meta.gguf
