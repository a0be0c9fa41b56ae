# Cut off exactly where the trailer begins: the header says that one must follow.
quern -q quantize data/fixture/meta-2 -t q8_0 -o m.gguf
size=$(stat -c %s m.gguf)
head -c $((size - 48 - 8 * 39)) m.gguf > cut.gguf
quern check cut.gguf
