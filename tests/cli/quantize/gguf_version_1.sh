# A real file of version 1 gives the weights that the checkpoint gives, in a file of version 3.
quern -q quantize data/stories260K/stories260K-f32.gguf -t q8_0 -o q8.gguf
head -c 8 q8.gguf | od -An -tu4 -j4
quern check q8.gguf
quern -q convert data/stories260K/stories260K-f32.gguf -o v3.gguf
quern diff data/stories260K/stories260K-f32.gguf v3.gguf --max-error 0 | tail -n 2
