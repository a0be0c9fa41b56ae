# The pipe's other end died: noticed without pipefail, and no output appears.
quern -q convert data/fixture/meta-2 | head -c 3000000 > cut
quern quantize -t q8_0 -o out.gguf < cut || code=$?
ls -A
exit ${code-0}
