echo '{"schema": "quern.diff/1"}' > before.json
quern perplexity data/fixture/meta-2 --text data/fixture/kjv.txt --baseline before.json
