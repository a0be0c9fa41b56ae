cp -r data/fixture/meta-2 m
cp data/stories260K/meta-f32/consolidated.00.pth m/consolidated.01.pth
quern check m
