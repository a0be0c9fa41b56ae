quern diff data/fixture/meta-2 data/fixture/meta-2 --max-error -1
