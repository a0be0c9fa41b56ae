quern quantize data/fixture/meta-2 -o out.gguf
