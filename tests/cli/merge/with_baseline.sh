quern -q quantize data/fixture/meta-2 -t q8_0 -o m.gguf
measure() { quern perplexity "$@" --text data/fixture/austen.txt --chunks 16 > /dev/null; }
measure data/fixture/meta-2 --json=before.json
for part in 1 2; do measure m.gguf --part $part/2 --json=$part.json; done
quern merge 2.json 1.json --baseline before.json --max-ppl-ratio 1.01 > out.txt
sed 's/, [0-9.]* s$//' out.txt
