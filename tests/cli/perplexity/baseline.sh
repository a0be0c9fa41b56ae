quern -q quantize data/fixture/meta-2 -t q8_0 -o m.gguf
quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 16 --json=before.json > /dev/null
quern perplexity m.gguf --text data/fixture/austen.txt --baseline before.json --max-ppl-ratio 1.01
