quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --part 3/2
