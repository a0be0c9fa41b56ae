# Not 2^64 - 5 bytes.
quern convert data/fixture/meta-2 --memory -5 -o out.gguf
