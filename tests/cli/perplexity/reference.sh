quern -q quantize data/fixture/meta-2 -t q8_0 -o m.gguf
quern perplexity m.gguf --text data/fixture/austen.txt --chunks 2 --reference data/fixture/meta-2
