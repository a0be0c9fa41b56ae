quern convert data/fixture/meta-2 --threads many -o out.gguf
