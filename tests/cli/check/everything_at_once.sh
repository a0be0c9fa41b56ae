# A surplus shard, one that is a web page, a truncated one, a NaN in the sound one, a vocabulary that was not downloaded.
cp -r data/fixture/meta-2 m
cp m/consolidated.01.pth m/consolidated.02.pth
cp m/consolidated.01.pth m/consolidated.03.pth
printf '\xc0\x7f' | dd of=m/consolidated.00.pth bs=1 seek=5032 conv=notrunc status=none
truncate -s 2000000 m/consolidated.01.pth
printf '<!DOCTYPE html>\n<html></html>\n' > m/consolidated.02.pth
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14799\n' > m/tokenizer.model
quern check m
