# README, "Pipelines": a model out of a tar stream, which is never unpacked.
quern -q convert data/fixture/meta-2 -o model.gguf
tar -c model.gguf | tar -xO model.gguf | quern quantize -t q4_0 > q4_0.gguf
quern -q quantize data/fixture/meta-2 -t q4_0 -o direct.gguf
cmp q4_0.gguf direct.gguf
