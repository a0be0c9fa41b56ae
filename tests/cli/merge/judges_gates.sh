for part in 1 2; do
  quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 48 --part $part/2 --json=$part.json > /dev/null
done
set +e
quern merge 1.json 2.json --max-ppl 10 | tail -n 1
exit ${PIPESTATUS[0]}
