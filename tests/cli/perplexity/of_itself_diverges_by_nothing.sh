quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 2 --reference data/fixture/meta-2 | grep -E 'mean KLD|top-1'
