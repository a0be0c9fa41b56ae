for threads in 1 2 7; do quern -q quantize data/fixture/meta-2 -t q4_0 --threads $threads -o $threads.gguf; done
cmp 1.gguf 2.gguf
cmp 1.gguf 7.gguf
quern -q quantize data/fixture/meta-2 -t Q4_0 --memory 32MiB --isa scalar -o small.gguf
cmp 1.gguf small.gguf
