quern check data/stories260K/hf
