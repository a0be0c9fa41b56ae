mkdir half
cp data/fixture/meta-2/*.json data/fixture/meta-2/tokenizer.model half
cp data/fixture/meta-2/consolidated.01.pth half
quern convert half -o out.gguf || code=$?
ls -A
exit ${code-0}
