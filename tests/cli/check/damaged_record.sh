# One bit of a shard's description, which says the same of its tensors as before: no weight is changed, but the sum of
# the entry tells, as it tells convert. Then the same of a file in Hugging Face's layout.
cp -r data/fixture/meta-2 m
rm m/checklist.chk
at=$(grep -abo cpu m/consolidated.01.pth | head -n1 | cut -d: -f1)
printf bpu | dd of=m/consolidated.01.pth bs=1 seek="$at" conv=notrunc status=none
quern check m || echo "exit code $?"
quern convert m -o m.gguf 2>&1 || echo "exit code $?"
mkdir h
cp data/stories260K/hf/{config.json,tokenizer.model,pytorch_model.bin} h/
at=$(grep -zaboP '3\nPK\x07\x08' h/pytorch_model.bin | head -zn1 | tr -d '\0' | cut -d: -f1 | head -n1)
printf 2 | dd of=h/pytorch_model.bin bs=1 seek="$at" conv=notrunc status=none
quern check h
