quern convert data/fixture/meta-2 > piped.gguf
quern -q convert data/fixture/meta-2 -o file.gguf
quern convert data/fixture/meta-2 -o - | cmp - file.gguf
cmp piped.gguf file.gguf
