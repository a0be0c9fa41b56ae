set +e
quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 20 --max-ppl 15.3 --json > report.json
code=$?
grep -E '"(decision|limit|gate)"' report.json
exit $code
