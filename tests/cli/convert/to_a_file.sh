quern convert data/fixture/meta-2 -o out.gguf
head -c 4 out.gguf
ls -A
