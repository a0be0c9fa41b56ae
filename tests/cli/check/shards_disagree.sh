# One weight of shard 1's copy of a norm is another: both are sound files, but not of one model.
cp -r data/fixture/meta-2 m
rm m/checklist.chk
printf '\x40\x40' | dd of=m/consolidated.01.pth bs=1 seek=3682368 conv=notrunc status=none
quern check m
