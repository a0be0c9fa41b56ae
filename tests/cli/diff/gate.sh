quern -q quantize data/fixture/meta-2 -t q4_0 --effort fast -o q.gguf
quern diff data/fixture/meta-2 q.gguf --max-error 0.05
