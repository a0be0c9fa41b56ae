quern -q quantize data/fixture/meta-2 -t q8_0 -o m.gguf
quern perplexity m.gguf --reference data/fixture/meta-2 --text data/fixture/austen.txt --max-ppl-ratio 1.01 --max-kld 0.01 --min-agreement 0.98 | tail -n 4
