# A job split into one part.
measure() { quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 3 "$@" > /dev/null; }
measure --json=whole.json
measure --part 1/1 --json=part.json
quern merge part.json --json=merged.json > /dev/null
diff <(grep -v seconds whole.json) <(grep -v seconds merged.json) && echo the same
