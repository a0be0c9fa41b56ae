quern perplexity model.gguf --text
