cp -r data/fixture/meta-2 m
rm m/consolidated.01.pth
quern check m
