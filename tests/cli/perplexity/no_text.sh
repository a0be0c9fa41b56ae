quern perplexity data/fixture/meta-2
