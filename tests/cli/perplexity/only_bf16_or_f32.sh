quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --compute fp8
