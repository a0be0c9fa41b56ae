for threads in 1 2 7; do quern -q convert data/fixture/meta-2 -t f16 --threads $threads -o $threads.gguf; done
cmp 1.gguf 2.gguf
cmp 1.gguf 7.gguf
quern -q convert data/fixture/meta-2 -t f16 --isa scalar -o scalar.gguf
cmp 1.gguf scalar.gguf
