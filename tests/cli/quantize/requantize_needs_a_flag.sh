quern -q quantize data/fixture/meta-2 -t q8_0 -o q8.gguf
quern quantize q8.gguf -t q4_0 --requantize -o q4.gguf
quern quantize q8.gguf -t q4_0 -o no.gguf
