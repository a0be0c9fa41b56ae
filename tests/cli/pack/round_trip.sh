# Files and pipes, any number of threads: the same bytes, and back again the very file.
quern -q quantize data/fixture/meta-2 -t q4_0 -o m.gguf
quern pack m.gguf -o m.qpack
quern pack -q --threads 7 < m.gguf | cmp - m.qpack
quern quantize -q data/fixture/meta-2 -t q4_0 -f qpack --threads 1 | cmp - m.qpack
quern unpack m.qpack -o again.gguf
cmp m.gguf again.gguf
quern unpack -q --threads 7 < m.qpack | cmp - m.gguf
quern pack m.gguf --level 3 -o slow.qpack --json=report
quern unpack -q slow.qpack | cmp - m.gguf
test "$(stat -c %s slow.qpack)" -le "$(stat -c %s m.qpack)"
grep -c '"packed_bytes"' report
