for threads in 1 2 7; do quern -q convert data/fixture/meta-2 -t f16 --threads $threads -o $threads.gguf; done
cmp 1.gguf 2.gguf
cmp 1.gguf 7.gguf
for isa in scalar ssse3 best; do quern -q convert data/fixture/meta-2 -t f16 --isa $isa -o $isa.gguf 2>err || grep -q 'usage' err; done
cmp 1.gguf best.gguf
cmp 1.gguf scalar.gguf
