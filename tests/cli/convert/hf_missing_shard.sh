mkdir m
cp data/stories260K/hf/config.json data/stories260K/hf/tokenizer.model m
cp data/stories260K/hf/model.safetensors m/model-00001-of-00002.safetensors
cat > m/model.safetensors.index.json <<'J'
{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors", "lm_head.weight": "model-00002-of-00002.safetensors"}}
J
quern convert m -o m.gguf
