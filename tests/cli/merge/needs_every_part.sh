for part in 1 3; do
  quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 3 --part $part/3 --json=$part.json > /dev/null
done
quern merge 1.json 3.json
