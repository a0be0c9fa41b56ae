quern -q convert data/fixture/meta-2 -t f16 --json -o out.gguf
