quern convert data/fixture/meta-2 another -o out.gguf
