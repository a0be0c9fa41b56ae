# A number comes out, and a warning: the model was made for 512 tokens.
quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt -c 1024 --chunks 1 > out.txt
grep -c perplexity out.txt
