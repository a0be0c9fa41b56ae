# A folder in Hugging Face's layout as the model and as the reference of Meta's.
quern perplexity data/stories260K/hf --text data/fixture/austen.txt --chunks 2 --reference data/stories260K/meta-f32 | grep -E 'mean KLD|top-1'
quern perplexity data/stories260K/meta-f32 --text data/fixture/austen.txt --chunks 2 --reference data/stories260K/hf | grep -E 'mean KLD|top-1'
