# What a slip of the hand gives.
set +e
quern convert data/fixture/meta-2 -o a.gguf -o b.gguf
quern convert data/fixture/meta-2 -o ""
quern convert ""
quern perplexity --text --chunks 1 m.gguf
quern quantize data/fixture/meta-2 -t -o q.gguf
quern -t
quern convert -o out.gguf -q data/fixture/meta-2 data/fixture/meta-1
ls
