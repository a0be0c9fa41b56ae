quern inspect data/fixture/meta-2/consolidated.01.pth | head -n 6
