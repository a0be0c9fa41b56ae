cp -r data/fixture/meta-2 m
cp m/consolidated.01.pth m/consolidated.02.pth
quern check m
