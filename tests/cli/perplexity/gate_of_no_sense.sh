quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --reference data/fixture/meta-2 --min-agreement 98
