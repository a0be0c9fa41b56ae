quern quantize data/fixture/meta-2 -t q4_0 --imatrix data/stories260K/stories260K-f32.gguf -o /dev/null
