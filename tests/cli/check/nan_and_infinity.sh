# A NaN in shard 0 and an infinity in shard 1: each with tensor, row and column, and the sums that differ with them.
cp -r data/fixture/meta-2 m
rm m/checklist.chk
printf '\xc0\x7f' | dd of=m/consolidated.00.pth bs=1 seek=5032 conv=notrunc status=none
printf '\x80\xff' | dd of=m/consolidated.01.pth bs=1 seek=266314 conv=notrunc status=none
quern check m
