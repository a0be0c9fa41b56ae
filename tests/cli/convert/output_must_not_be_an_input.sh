cp -r data/fixture/meta-2 copy
ln copy/consolidated.00.pth linked
quern convert copy -o linked --force
