quern convert data/fixture/meta-2 -t q4_0 -o out.gguf
