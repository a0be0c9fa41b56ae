quern quantize data/fixture/meta-2 -t q8_0 --memory 1KiB -o out.gguf
