# Another architecture is named, though its weights would fit.
cp -r data/stories260K/hf m
sed -i 's/"llama"/"mistral"/; s/LlamaForCausalLM/MistralForCausalLM/' m/config.json
quern convert m -o m.gguf
