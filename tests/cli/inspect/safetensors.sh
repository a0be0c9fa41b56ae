quern inspect data/stories260K/hf/model.safetensors
