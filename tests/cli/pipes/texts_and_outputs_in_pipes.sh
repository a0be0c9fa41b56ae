# A text may come from a pipe, a model may go into one under any name.
quern convert -q data/fixture/meta-2 -o m.gguf
quern convert -q m.gguf -o >(sha256sum >a)
quern convert -q m.gguf -o /dev/stdout | sha256sum >b
sha256sum <m.gguf >c
until [ -s a ]; do sleep 0.1; done
cmp a c && cmp b c && echo same
measure() { quern perplexity m.gguf --chunks 1 "$@" | head -n 1; }
measure --text data/fixture/austen.txt >1
measure --text - <data/fixture/austen.txt >2
measure --text <(cat data/fixture/austen.txt) >3
cmp 1 2 && cmp 1 3 && echo same
quern check - <m.gguf || echo $?
quern perplexity - --text data/fixture/austen.txt <m.gguf || echo $?
