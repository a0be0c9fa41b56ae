quern -q convert data/fixture/meta-2 -o m.gguf
head -c 5000000 m.gguf > cut.gguf
quern check cut.gguf
