quern inspect data/stories260K/stories260K-f32.gguf | head -n 8
