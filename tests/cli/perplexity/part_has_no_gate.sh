quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --part 1/2 --max-ppl 20
