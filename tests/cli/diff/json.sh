quern -q quantize data/fixture/meta-2 -t q8_0 --effort fast -o q.gguf
quern diff data/fixture/meta-2 q.gguf --json --max-error 0.01
