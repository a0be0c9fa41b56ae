head -c 1000 data/stories260K/stories260K-f32.gguf > mix.txt
quern quantize data/fixture/meta-2 -t q4_0 --recipe mix.txt -o /dev/null
