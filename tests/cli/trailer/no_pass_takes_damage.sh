# Every pass compares what it reads with the hashes in the file: exit code 3, the tensor's name, no output.
quern -q convert data/fixture/meta-2 -o m.gguf
cp m.gguf bad.gguf
printf '\x55' | dd of=bad.gguf bs=1 seek=4000000 conv=notrunc status=none
text="--text data/fixture/kjv.txt --context 128 --chunks 1"
ls > before
try() {
  code=0
  "$@" > printed 2> said || code=$?
  printf '%s: exit %s, ' "$*" $code
  sed -n 's/.*tensor \(.*\) (byte.*\(\[.*\]\)/\1 \2/p' said | head -n 1
}
try quern convert bad.gguf -o out
try quern quantize bad.gguf -t q8_0 -o out
try quern pack bad.gguf -o out
try quern perplexity bad.gguf $text
try quern perplexity bad.gguf $text --reference m.gguf
try quern perplexity bad.gguf $text --save-logits out
try quern imatrix bad.gguf $text -o out
try quern diff bad.gguf m.gguf
try quern diff m.gguf bad.gguf
# Streams end with it.
for command in convert "quantize -t q8_0" pack; do
  try sh -c "quern $command -o out < bad.gguf"
done
rm printed said
ls | diff before - | grep '^[<>]' || true
