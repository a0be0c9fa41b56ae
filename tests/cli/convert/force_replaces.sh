echo old > out.gguf
quern -q convert data/fixture/meta-2 -o out.gguf --force
head -c 4 out.gguf
ls -A
