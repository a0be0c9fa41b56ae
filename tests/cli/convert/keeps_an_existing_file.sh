echo old > out.gguf
quern convert data/fixture/meta-2 -o out.gguf || code=$?
cat out.gguf
exit ${code-0}
