quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --max-kld 0.01
