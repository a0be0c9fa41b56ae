quern -q convert data/fixture/meta-2 -o m.gguf
quern diff data/fixture/meta-2 m.gguf --max-error 0
