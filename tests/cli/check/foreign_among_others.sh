# A shard of another model is found by its norms though the vocabulary is damaged and a shard is missing.
cp -r data/fixture/meta-2 m
printf '\x40\x40' | dd of=m/consolidated.01.pth bs=1 seek=3682368 conv=notrunc status=none
mv m/consolidated.01.pth m/consolidated.02.pth
printf '<html></html>\n' > m/tokenizer.model
quern check --no-weights m
