for threads in 1 2 7; do
  quern perplexity data/fixture/meta-2 --text data/fixture/austen.txt --chunks 2 --threads $threads --json | grep -v seconds > $threads.json
done
cmp 1.json 2.json
cmp 1.json 7.json
