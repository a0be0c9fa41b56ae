quern -q quantize data/fixture/meta-2 -t q4_0 -o m.gguf
quern perplexity m.gguf --reference data/fixture/meta-2 --text data/fixture/austen.txt --chunks 2 --per-tensor | tail -n 31 > table.txt
head -n 1 table.txt
awk 'NR > 1 { print $1 }' table.txt | sort | uniq | wc -l
