# Models of the same size stand in a report as they were named.
quern -q quantize data/fixture/meta-2 -t q8_0 --tensor 'blk.0.*=f16' -o b.gguf
quern -q quantize data/fixture/meta-2 -t q8_0 --tensor 'blk.1.*=f16' -o c.gguf
measure() { quern perplexity "$@" --text data/fixture/austen.txt --chunks 4 > /dev/null; }
measure b.gguf c.gguf --json=whole.json
measure b.gguf c.gguf --part 1/2 --json=1.json
measure c.gguf b.gguf --part 2/2 --json=2.json
quern merge 1.json 2.json --json=merged.json > /dev/null
diff <(grep -v seconds whole.json) <(grep -v seconds merged.json) && echo the same
