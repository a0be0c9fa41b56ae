# --verify succeeds only where every shard was compared: not with an empty list, a web page, a list of another release,
# or the vocabulary's alone. The checklist is an input, so no output replaces it.
cp -r data/fixture/meta-2 m
convert() { quern -q convert --verify m -o m.gguf 2>&1 || echo "exit code $?"; }
cp m/checklist.chk list
: > m/checklist.chk
convert
echo '<!DOCTYPE html><title>Sign in</title>' > m/checklist.chk
convert
sed '/consolidated.01/d' list > m/checklist.chk
convert
grep tokenizer list > m/tokenizer_checklist.chk
rm m/checklist.chk
convert
cp list m/checklist.chk
convert
quern convert --verify m -o m/checklist.chk --force 2>&1 || echo "exit code $?"
cmp list m/checklist.chk
ls -- *.gguf
