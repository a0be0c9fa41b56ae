quern -q convert data/fixture/meta-2 -o out.gguf
quern inspect out.gguf --json | head -n 29
