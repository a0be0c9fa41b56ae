# Whatever a flag takes, it leaves the words behind it alone.
quern quantize -q -o a.gguf -t q4_0 data/fixture/meta-2
quern imatrix -q -f data/fixture/austen.txt --chunks 2 a.gguf -o a.imatrix
quern perplexity -f data/fixture/austen.txt --chunks 1 a.gguf --json | grep -c '"model": "a.gguf"' || true
ls
