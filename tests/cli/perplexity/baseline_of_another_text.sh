quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 2 --json=before.json > /dev/null
quern perplexity data/fixture/meta-2 --text data/fixture/kjv.txt --chunks 2 --baseline before.json
