quern -q convert data/fixture/meta-2 -o m.gguf
quern perplexity m.gguf --text data/fixture/austen.txt --chunks 2
