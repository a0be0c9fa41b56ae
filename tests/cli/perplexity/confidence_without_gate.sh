quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --confidence 0.999
