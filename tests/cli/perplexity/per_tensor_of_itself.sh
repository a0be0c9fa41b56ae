# No tensor differs: that is an answer, not an error.
quern convert -q data/fixture/meta-2 -o same.gguf
quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --reference same.gguf --chunks 2 --per-tensor --json=report.json | tail -n 1
grep -A 1 per_tensor_windows report.json
