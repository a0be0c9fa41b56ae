quern quantize -t q8_0 -o out.gguf < /dev/null
