quern inspect data/stories260K/hf
