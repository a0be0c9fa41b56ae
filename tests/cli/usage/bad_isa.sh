quern convert data/fixture/meta-2 --isa avx9 -o out.gguf
