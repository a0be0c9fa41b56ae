quern -q quantize data/fixture/meta-2 -t q4_0 -o m.gguf
measure() { quern perplexity m.gguf --reference data/fixture/meta-2 --text data/fixture/austen.txt --chunks 9 "$@" > /dev/null; }
measure --json=whole.json
for part in 1 2 3; do measure --part $part/3 --json=$part.json; done
quern merge 3.json 1.json 2.json --json=merged.json > /dev/null
diff <(grep -v seconds whole.json) <(grep -v seconds merged.json) && echo the same
