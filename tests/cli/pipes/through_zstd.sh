# README, "Pipelines": kept as zstd, quantized from there.
command -v zstd > /dev/null || { echo "zstd is not installed" >&2; exit 77; }
quern convert data/fixture/meta-2 | zstd -q > model.gguf.zst
zstd -dc model.gguf.zst | quern quantize -t q4_0 | zstd -q > q4_0.gguf.zst
quern -q quantize data/fixture/meta-2 -t q4_0 -o direct.gguf
zstd -dc q4_0.gguf.zst | cmp - direct.gguf
