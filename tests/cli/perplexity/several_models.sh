quern -q convert data/fixture/meta-2 -o base.gguf
for type in q8_0 q4_0; do quern -q quantize base.gguf -t $type -o $type.gguf; done
quern perplexity --reference base.gguf q8_0.gguf q4_0.gguf --text data/fixture/austen.txt --chunks 2
