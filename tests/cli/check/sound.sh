quern check data/fixture/meta-2
quern -q convert data/fixture/meta-2 -o m.gguf
quern check m.gguf
