echo 'It is a truth' > short.txt
quern perplexity data/fixture/meta-2 --text short.txt
