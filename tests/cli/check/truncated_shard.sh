cp -r data/fixture/meta-2 m
truncate -s 2000000 m/consolidated.01.pth
quern check m
