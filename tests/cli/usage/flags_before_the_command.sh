quern --threads 2 -q convert data/fixture/meta-2 -o out.gguf
test -s out.gguf
