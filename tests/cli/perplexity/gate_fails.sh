quern -q quantize data/fixture/meta-2 -t q2_k -o m.gguf
quern perplexity m.gguf --reference data/fixture/meta-2 --text data/fixture/austen.txt --max-ppl-ratio 1.005 > out.txt && exit 9
code=$?
tail -n 2 out.txt
exit $code
