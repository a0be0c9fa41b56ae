# Hashes are written by default, and leave the file as it was where they are not wanted.
quern -q convert data/fixture/meta-2 -o with.gguf
quern -q convert data/fixture/meta-2 --no-trailer -o without.gguf
quern -q convert with.gguf --no-trailer -o stripped.gguf
cmp without.gguf stripped.gguf
quern -q convert without.gguf | cmp - with.gguf
tail -c $((48 + 8 * 39)) with.gguf | head -c 8
